"""The plan node tells what a rollout then does."""

import statistics

import comfy.model_management
import folder_paths
import pytest
import tiny
from comfy.patcher_extension import WrappersMP
from comfy_api.latest._io import Hidden
from comfy_execution.utils import CurrentNodeContext
from families import FILES
from loading import load, saved
from runs import sample

from relax_memory.direction.grammar import parse
from relax_memory.host.directed import Directed, with_direction
from relax_memory.saved.archive import saved_rollouts

SIZE = {"width": 64, "height": 32, "frames_per_chunk": 3, "batch_size": 1, "steps": 4}


def plan(length: int, **settings):
    return tiny.node("RelaxForcingPlan", model=tiny.remembering(**settings), length=length, **SIZE)


def test_the_paper_settings_look_back_at_most_fourteen_and_a_half_seconds():
    text, picture = plan(957, reservoir_frames=120)
    assert "in 80 chunks of 3" in text
    assert "among the moments 14.5, 11, 7.5, 4 s ago" in text
    assert "Mind" not in text
    assert picture.shape[0] == 1 and 0 <= picture.min() < picture.max() <= 1


@pytest.mark.parametrize(
    ("length", "warning"),
    [
        (958, "length 958 is not 4n + 1, so the video has 957 frames"),
        (953, "1 more are made and cut off; length 957 would keep them"),
        (81, "reservoir_frames 120 (30 s) is longer than the video"),
        (9, "too short for a choice of history"),
    ],
)
def test_surprises_are_told(length, warning):
    assert warning in plan(length, reservoir_frames=120)[0]


def test_a_size_that_the_sampler_refuses_is_refused():
    with pytest.raises(ValueError, match="width is 850, but Wan needs a multiple of 16: use 848"):
        tiny.node("RelaxForcingPlan", model=tiny.remembering(), length=81, **SIZE | {"width": 850})


def test_each_tier_is_costed_and_the_chosen_one_marked():
    text, _ = plan(957, reservoir_device="cpu", reservoir_dtype="fp8")
    assert text.count("reservoir_device") == 4
    assert "-> reservoir_device cpu, reservoir_dtype fp8" in text


def test_passes_are_those_that_the_sampler_makes():
    assert "A chunk takes 5 passes through the model: 399 in all." in plan(957)[0]
    assert "A chunk takes 5 passes through the model: 4 in all." in plan(9)[0]


def test_a_checkpoint_is_planned_as_it_was_made(model_folder):
    (content,) = FILES["Causal Forcing++ 2-step"].values()
    model = load(saved(model_folder, content, "framewise-2step.pt"))
    asked = {"width": 64, "height": 32, "batch_size": 1, "model": model, "length": 957}
    text, _ = tiny.node("RelaxForcingPlan", frames_per_chunk=0, **asked)
    assert "in 240 chunks of 1 latent frames" in text
    assert "A chunk takes 3 passes through the model, the first one 5: 721 in all." in text
    assert "was not made for" not in text
    text, _ = tiny.node("RelaxForcingPlan", frames_per_chunk=3, steps=4, **asked)
    assert "was not made for frames_per_chunk 3 instead of 1 and steps 4 instead of 2" in text


def test_what_is_not_known_of_a_checkpoint_is_told():
    text, _ = tiny.node(
        "RelaxForcingPlan", model=tiny.remembering(), length=957, **SIZE | {"frames_per_chunk": 0}
    )
    assert "in 80 chunks of 3" in text
    assert "it is run with 3 frames a chunk and 4 steps" in text


def test_time_is_the_median_of_saved_runs_of_the_same_model_size_and_settings(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    asked = {"width": 32, "height": 32, "length": 57, "frames_per_chunk": 3, "batch_size": 1}
    asked |= {"model": tiny.remembering(), "steps": 2}
    assert "no saved run" in tiny.node("RelaxForcingPlan", **asked)[0]
    sample(length=57, autosave=True)
    (run,) = saved_rollouts(tmp_path / "relax_forcing")
    seconds = [chunk.trace.seconds for chunk in run.chunks()][1:]
    took = f"{statistics.median(seconds):.3g} s a chunk"
    assert f"took {took}; decoding" in tiny.node("RelaxForcingPlan", **asked)[0]
    for other in ({"width": 48}, {"steps": 4}, {"batch_size": 2}, {"model": other_weights()}):
        assert "no saved run" in tiny.node("RelaxForcingPlan", **asked | other)[0]


def other_weights():
    return tiny.node("RelaxForcingMemory", model=tiny.model("wan", seed=1), **tiny.MEMORY)[0]


def workflow(*samplers, **inputs):
    """Plan is node 7; its model comes from node 1, past which other nodes hand it on."""
    prompt = {
        "1": {"class_type": "RelaxForcingMemory", "inputs": {}},
        "2": {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0]}},
        "3": {"class_type": "PrimitiveInt", "inputs": {"value": 477}},
        "7": {"class_type": "RelaxForcingPlan", "inputs": {"model": ["1", 0]}},
    }
    given = {"width": 64, "height": 32, "length": ["3", 0], "frames_per_chunk": 3}
    given |= {"batch_size": 2, "steps": 2, "cfg": 3.0, **inputs}
    for key, (kind, source) in enumerate(samplers, 10):
        prompt[str(key)] = {"class_type": kind, "inputs": {"model": [source, 0], **given}}
    return prompt


def planned(prompt):
    """The plan of a node that is executed in this workflow, with other values in its widgets."""
    cls = tiny.pack()["RelaxForcingPlan"]
    clone = cls.PREPARE_CLASS_CLONE({"hidden_inputs": {Hidden.prompt: prompt}})
    with CurrentNodeContext("prompt", "7"):
        inputs = {"model": tiny.remembering(), "length": 957, "from_sampler": True, **SIZE}
        return clone.EXECUTE_NORMALIZED(**inputs).result[0]


@pytest.mark.parametrize(
    "sampler", [("RelaxForcingSampler", "1"), ("RelaxForcingStream", "2")], ids=["near", "far"]
)
def test_values_may_be_those_of_the_one_sampler_that_the_model_reaches(sampler, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 8e9)
    text = planned(workflow(sampler))
    assert text.startswith("477 frames, 29.8125 s at 16 fps, in 40 chunks of 3")
    assert "A chunk takes 3 passes" in text
    assert "A chunk takes 2 passes" in planned(workflow(sampler, clean_pass="never"))
    here = SIZE | {"batch_size": 4, "steps": 2, "length": 477}
    alone, _ = tiny.node("RelaxForcingPlan", model=tiny.remembering(), **here)
    assert text == alone  # cfg 3 of 2 videos has as many rows as cfg 1 of 4


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({}, "nothing is known of the workflow"),  # as for a copy of Plan that a loop makes
        (workflow(), "from_sampler is on, but model reaches no sampler: connect it to one"),
        (
            workflow(("RelaxForcingSampler", "1"), ("RelaxForcingStream", "2")),
            r"reaches 2 samplers \(nodes 10, 11\)",
        ),
        (
            workflow(("RelaxForcingSampler", "1"), width=["1", 0]),
            r"width of the sampler \(node 10\) is worked out by another node",
        ),
    ],
    ids=["a copy", "none", "several", "worked out"],
)
def test_a_sampler_that_cannot_be_read_is_said(prompt, words):
    with pytest.raises(ValueError, match=words):
        planned(prompt)


STORY = """GLOBAL: a film
Scene field:
[0s] a red circle
Scene kitchen:
[1.5s] two men
[3s recache] she leaves
Scene field:
[4.5s @2s] the circle again"""


def directed(text=STORY):
    script = parse(text)
    prompts = tuple(tiny.conditioning(seed) for seed, _ in enumerate(script.cues))
    return with_direction(Directed(script=script, prompts=prompts))


def planned_film(text=STORY, **inputs):
    inputs = SIZE | {"model": tiny.remembering(), "length": 105, "steps": 2} | inputs
    return tiny.node("RelaxForcingPlan", positive=directed(text), **inputs)


def test_shots_and_scenes_of_a_film_are_listed_with_their_costs():
    text, picture = planned_film()
    lines = text.splitlines()
    shots, scenes = lines.index("Shots:"), lines.index("Scenes, of which one is held at a time:")
    assert lines[shots + 1 : scenes] == [
        "- 0 s (scene 1): a red circle",
        "- 1.31 s (cut, scene 2): two men",
        "- 2.81 s (recache, scene 2): she leaves",
        "- 4.31 s (return, scene 1, remembers 1.81 to 2 s): the circle again",
    ]
    first, second = lines[scenes + 1 : scenes + 3]
    assert first.startswith("- scene 1: 3.75 s, ")
    waits = "; while it is away it waits in host memory, passes when it comes back: 1"
    assert first.endswith(waits)
    assert second.startswith("- scene 2: 3 s, ") and second.endswith(" MB of keys and values")
    assert "reads 5 remembered latent frames: 1 moment, 2 sink, 1 history, 1 tail." in text
    assert "Shots begin at" not in text
    assert picture.shape != planned_film("a red circle")[1].shape


def test_a_plan_tells_what_a_longer_video_keeps():
    text, _ = planned_film("a | b | c")
    told = "- Shots without a time move with the length: a longer video is sure to keep what is "
    assert f"{told}before 2.06 s" in text.splitlines()
    assert "move with the length" not in planned_film()[0]


@pytest.mark.parametrize(
    "text",
    [
        STORY,
        "[0s] a\n[1.5s recache] b\n[3s recache] c",
        "[0s] a\n[1.5s #] b\n[3s recache] c",
        "Scene a:\n[0s] a\n[1.5s recache] b\n[3s recache] c\nScene b:\n[4s] d\nScene a:\n[5s] e",
    ],
    ids=["story", "recache", "cut", "return"],
)
def test_passes_of_a_film_are_those_that_the_sampler_makes(text):
    made = []

    def counting(executor, *args, **kwargs):
        made.append(1)
        return executor(*args, **kwargs)

    model = tiny.remembering().clone()
    model.add_wrapper(WrappersMP.DIFFUSION_MODEL, counting)
    sample(model=model, positive=directed(text), length=105)
    told, _ = planned_film(text)
    assert f": {len(made)} in all" in told
    assert ("for recache" in told) == ("recache" in text)


def test_a_prompt_without_shots_changes_nothing_but_how_many_entries_are_counted(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 8e9)
    asked = SIZE | {"model": tiny.remembering(), "length": 957}
    plain = tiny.node("RelaxForcingPlan", **asked)[0]
    assert tiny.node("RelaxForcingPlan", positive=tiny.conditioning(1), **asked)[0] == plain
    two = tiny.conditioning(1) + tiny.conditioning(2)
    twice = tiny.node("RelaxForcingPlan", **asked | {"batch_size": 2})[0]
    assert tiny.node("RelaxForcingPlan", positive=two, **asked)[0] == twice


def test_shots_that_do_not_fit_the_video_are_refused():
    with pytest.raises(ValueError, match="positive, line 2, column .*too short"):
        planned_film("[0s] a\n[1s] b\n[1.2s] c")


def test_seconds_of_shots_count_by_the_fps_of_the_stream():
    prompt = workflow(("RelaxForcingStream", "1"), fps=32.0)
    assert planned(prompt).startswith("477 frames, 14.9062 s at 32 fps")
