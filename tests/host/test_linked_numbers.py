"""Numbers that come from other nodes, which the host hands on as they are."""

import math

import pytest
import tiny
import tiny_vae
import torch
from runs import sample

WHOLE = {"width": 32.0, "height": 32.0, "length": 21.0, "seed": 0.0, "steps": 2.0}
WHOLE |= {"frames_per_chunk": 3.0, "batch_size": 1.0}


def decode(fps):
    inputs = {"samples": {"samples": tiny_vae.latents(1)}, "vae": tiny_vae.vae()}
    return tiny.node("RelaxForcingDecode", fps=fps, filename_prefix="x", **inputs)


def plan(**inputs):
    sizes = {"width": 32, "height": 32, "length": 21, "frames_per_chunk": 3, "batch_size": 1}
    return tiny.node("RelaxForcingPlan", model=tiny.remembering(), **sizes | inputs)[0]


def test_whole_numbers_that_a_node_made_fractions_of_are_whole():
    assert torch.equal(sample(**WHOLE), sample())
    sizes = ("width", "height", "length", "frames_per_chunk", "batch_size")
    told = plan(**{name: WHOLE[name] for name in sizes})
    assert told.splitlines()[0] == plan().splitlines()[0]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("part", [0.5, math.nan, math.inf])
def test_parts_of_whole_numbers_are_refused(name, part):
    with pytest.raises(ValueError, match=f"{name} is .*, but a whole number is needed: round it"):
        sample(**{name: WHOLE[name] + part})


def test_what_is_beyond_the_widgets_is_refused():
    for use in (sample, plan):
        with pytest.raises(ValueError, match="length is 1000000000: use at most 1000001"):
            use(length=10**9)
    with pytest.raises(ValueError, match="width is 32768: use at most 8192"):
        sample(width=2**15)
    with pytest.raises(ValueError, match="cfg is nan: use 0 to 100"):
        sample(cfg=math.nan, negative=tiny.conditioning(2))


@pytest.mark.parametrize("fps", [0.0, -1.0, math.nan, math.inf])
def test_pictures_a_second_that_no_file_can_say_are_refused(fps):
    inputs = {"model": tiny.remembering(), "positive": tiny.conditioning(1), "vae": tiny_vae.vae()}
    sizes = {"width": 32, "height": 32, "length": 5, "seed": 0, "steps": 1, "cfg": 1.0}
    sizes |= {"frames_per_chunk": 3, "batch_size": 1, "autosave": False}
    with pytest.raises(ValueError, match="fps is .*: use 0.001 to 1000"):
        tiny.node("RelaxForcingStream", fps=fps, filename_prefix="x", **inputs | sizes)
    with pytest.raises(ValueError, match="fps is .*: use 0.001 to 1000"):
        decode(fps)
