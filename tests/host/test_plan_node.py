"""The plan node tells what a rollout then does."""

import pytest
import tiny
from families import FILES
from loading import load, saved

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
