"""Hooks of other packs' kinds, before and after the memory node, in both ways of sampling."""

import comfy.patcher_extension
import pytest
import tiny
import torch
from drawn.packs import PACKS
from runs import WAYS

PLACES = {
    "before memory": lambda put: tiny.node(
        "RelaxForcingMemory", model=put(tiny.model("wan")), **tiny.MEMORY
    )[0],
    "after memory": lambda put: put(tiny.remembering()),
}
everywhere = pytest.mark.parametrize("place", PLACES)
both_ways = pytest.mark.parametrize("way", WAYS)


def previews_into(shown: list[torch.Size]):
    """As preview nodes do it: a wrapper of sampling, with a callback around the host's."""

    def around(executor, noise, latent, sampler, sigmas, mask, callback, *args, **kwargs):
        def shows(step, x0, x, total):
            shown.append(x0.shape)
            if callback is not None:
                callback(step, x0, x, total)

        return executor(noise, latent, sampler, sigmas, mask, shows, *args, **kwargs)

    def put(model):
        model = model.clone()
        kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
        model.add_wrapper_with_key(kind, "preview_override", around)
        return model

    return put


@everywhere
@both_ways
def test_a_preview_of_another_pack_sees_every_step_and_changes_nothing(way, place):
    shown: list[torch.Size] = []
    video = WAYS[way](model=PLACES[place](previews_into(shown)))
    assert torch.equal(video, WAYS[way]())
    assert len(shown) == 4  # two steps of two chunks
    assert {len(shape) for shape in shown} == {5}


@everywhere
@both_ways
def test_a_cache_of_steps_is_named_at_the_step_that_it_answers(way, place):
    with pytest.raises(RuntimeError, match=r"step 2 of chunk 1 ran.*cached of drawn.packs"):
        WAYS[way](model=PLACES[place](PACKS["cache of steps"]))


@everywhere
@both_ways
@pytest.mark.parametrize("pack", ["feed-forward in pieces", "attention override"])
def test_what_computes_the_same_in_another_way_gives_the_same_video(pack, way, place):
    video = WAYS[way](model=PLACES[place](PACKS[pack]))
    torch.testing.assert_close(video, WAYS[way](), rtol=0, atol=5e-5)


@everywhere
@both_ways
def test_an_attention_that_would_take_the_place_of_ours_is_refused_by_name(way, place):
    with pytest.raises(ValueError, match="enhanced of drawn.packs as .*self_attn.forward"):
        WAYS[way](model=PLACES[place](PACKS["attention forward"]))
