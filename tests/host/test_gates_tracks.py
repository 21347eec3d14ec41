"""Tracks of Wan Move are found in the workflow: the picture that they moved does not show them."""

import functools

import nodes as host_nodes
import pytest
import tiny
import tiny_vae
import torch
from comfy_api.latest._io import Hidden
from comfy_execution.utils import CurrentNodeContext
from comfy_extras.nodes_wan import WanImageToVideo
from comfy_extras.nodes_wanmove import GenerateTracks, WanMoveTrackToVideo

SIZE = {"width": 64, "height": 64}
RUN = SIZE | {"length": 21, "seed": 0, "steps": 1, "frames_per_chunk": 3, "batch_size": 1}
TRACKS = ["2", 0]


@pytest.fixture(autouse=True)
def known_to_the_host(monkeypatch):
    """A server registers the host's further nodes at its start."""
    for cls in (GenerateTracks, WanMoveTrackToVideo, WanImageToVideo):
        name = cls.define_schema().node_id
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, name, cls)


def workflow(strength, tracks, through):
    """A sampler (node 9) whose prompt comes through tracks (node 3) and `through` other nodes."""
    moved = {"strength": strength, "tracks": tracks, "positive": ["1", 0], "vae": ["0", 2]}
    prompt = {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["0", 1]}},
        "2": {"class_type": "GenerateTracks", "inputs": {}},
        "3": {
            "class_type": "WanMoveTrackToVideo",
            "inputs": {name: value for name, value in moved.items() if value is not None},
        },
        "4": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 2], "vae": ["0", 2]}},
        "9": {"class_type": "RelaxForcingSampler", "inputs": {}},
    }
    kinds = {
        "nothing": {"positive": ["3", 0]},
        "negative": {"positive": ["1", 0], "negative": ["3", 1]},
        "others": {"positive": ["6", 0]},
        "latent": {"positive": ["1", 0], "prefix": ["3", 2]},
        "picture": {"positive": ["7", 0]},
    }
    timed = {"start": 0.0, "end": 1.0, "conditioning": ["3", 0]}
    prompt["5"] = {"class_type": "ConditioningSetTimestepRange", "inputs": timed}
    both = {"conditioning_1": ["1", 0], "conditioning_2": ["5", 0]}
    prompt["6"] = {"class_type": "ConditioningCombine", "inputs": both}
    shown = {"positive": ["1", 0], "start_image": ["4", 0]}
    prompt["7"] = {"class_type": "WanImageToVideo", "inputs": shown}
    prompt["9"]["inputs"] = kinds[through]
    return prompt


@functools.cache
def moved_prompts(strength):
    tracks = GenerateTracks.execute(
        **SIZE, start_x=0.1, start_y=0.1, end_x=0.9, end_y=0.9, num_frames=21,
        num_tracks=3, track_spread=0.1, bezier=False, mid_x=0.5, mid_y=0.5, interpolation="linear",
    )[0]  # fmt: skip
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    made = WanMoveTrackToVideo.execute(
        tiny.conditioning(1), tiny.conditioning(2), tiny_vae.vae(),
        **SIZE, length=21, batch_size=1, strength=strength, start_image=picture, tracks=tracks,
    )  # fmt: skip
    return {"positive": made[0], "negative": made[1], "cfg": 2.0}


def execute(prompt, **conditionings):
    cls = tiny.pack()["RelaxForcingSampler"]
    clone = cls.PREPARE_CLASS_CLONE({"hidden_inputs": {Hidden.prompt: prompt}})
    with CurrentNodeContext("prompt", "9"):
        return clone.EXECUTE_NORMALIZED(model=tiny.remembering(), **RUN, **conditionings).result


@pytest.mark.parametrize("strength", [0.3, 2.5, ["8", 0]])
@pytest.mark.parametrize("through", ["nothing", "negative", "others"])
def test_tracks_of_any_strength_are_refused_by_the_node_that_adds_them(strength, through):
    given = moved_prompts(0.3)  # of which a picture beside them tells nothing
    with pytest.raises(ValueError, match=r"Wan Move Track To Video \(node 3\), whose tracks"):
        execute(workflow(strength, TRACKS, through), **given)


@pytest.mark.parametrize(
    ("strength", "tracks", "through"),
    [(0.0, TRACKS, "nothing"), (1.0, None, "nothing"), (0.5, TRACKS, "latent")]
    + [(0.5, TRACKS, "picture")],
)  # a picture that another model made along tracks is a picture
def test_what_no_track_moved_is_a_start_image(strength, tracks, through):
    latents, _ = execute(workflow(strength, tracks, through), **moved_prompts(0.0))
    assert latents["samples"].shape[2] == 6


def test_the_stream_refuses_them_too(tmp_path):
    cls = tiny.pack()["RelaxForcingStream"]
    prompt = workflow(0.5, TRACKS, "nothing")
    clone = cls.PREPARE_CLASS_CLONE({"hidden_inputs": {Hidden.prompt: prompt}})
    given = {"model": tiny.remembering(), "vae": tiny_vae.vae(), "filename_prefix": "moved"}
    with CurrentNodeContext("prompt", "9"), pytest.raises(ValueError, match="tracks"):
        clone.EXECUTE_NORMALIZED(**given, **RUN, **moved_prompts(0.5))
