"""What a steady chunk costs beside plain passes of the model, so that it cannot creep.

Launches and waits do not depend on sizes and are linear in layers: models of two and three layers
say what thirty cost. Bytes do depend: `benchmarks` has those of real sizes.
"""

import functools

import comfy.samplers
import pytest
import tiny
import torch
from device import host
from device.ledger import LEDGER

LAYERS = 30
SIGMAS = torch.tensor([1.0, 0.9375, 0.8333, 0.625, 0.0])
PASSES = 5  # four steps and the clean pass
STEADY, FRAMES = 5, 24  # a chunk that finds all candidates, and is remembered for two later ones


class PlainPasses(comfy.samplers.Sampler):
    """As many calls of the model as a chunk has, and nothing else."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
        for sigma in [*sigmas, *sigmas]:
            model_wrap(noise, sigma * noise.new_ones(len(noise)), **extra_args)
        return noise


def run(model, sampler, *, frames: int, cfg: float = 1.0, rows: int = 1) -> list[dict]:
    """The marks of custom sampling by the host, which has no waits of our nodes."""
    marks = []
    guider = comfy.samplers.CFGGuider(host.watched(model, marks))
    guider.set_conds(tiny.conditioning(1), tiny.conditioning(2))
    guider.set_cfg(cfg)
    noise = torch.randn(rows, 16, frames, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        guider.sample(noise, noise * 0, sampler, SIGMAS, disable_pbar=True, seed=1)
    return marks


def with_30_layers(chunk) -> dict[str, int]:
    """Of each figure of `chunk(layers)`, which grows by as much with every layer."""
    two, three = chunk(2), chunk(3)
    return {key: two[key] + (LAYERS - 2) * (three[key] - two[key]) for key in two}


@functools.cache
def plain(**inputs) -> dict[str, int]:
    def chunk(layers: int) -> dict[str, int]:
        marks = run(host.model(layers=layers), PlainPasses(), frames=3, **inputs)
        return {key: marks[-1][key] - marks[-1 - PASSES][key] for key in marks[-1]}

    return with_30_layers(chunk)


def relaxed(memory: dict, **inputs) -> dict[str, int]:
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)

    def chunk(layers: int) -> dict[str, int]:
        model = host.remembering(host.model(layers=layers), **memory)
        return host.chunk_cost(run(model, sampler, frames=FRAMES, **inputs), STEADY, PASSES)

    return with_30_layers(chunk)


CPU, FP8 = {"reservoir_device": "cpu"}, {"reservoir_dtype": "fp8"}


@pytest.mark.parametrize(
    ("memory", "inputs", "percent"),
    [
        ({}, {}, 2.6),
        (CPU, {}, 2.0),
        (FP8, {}, 6.8),
        (CPU | FP8, {}, 6.8),
        ({}, {"cfg": 3.0}, 3.0),
        ({}, {"rows": 2}, 2.6),
    ],
    ids=["gpu", "cpu", "gpu fp8", "cpu fp8", "cfg", "batch"],
)
def test_launches_and_waits_of_a_chunk(memory, inputs, percent):
    ours, theirs = relaxed(memory, **inputs), plain(**inputs)
    assert theirs["launches"] > 4000
    assert ours["launches"] <= (1 + percent / 100) * theirs["launches"]
    scores_and_finite = 2
    assert ours["waits"] <= theirs["waits"] + scores_and_finite
    assert (ours["copied"] > 0) == ("reservoir_device" in memory)


def test_only_rows_that_read_a_frame_go_over_pcie():
    """Two samples, of which each fetches its own history, upload twice what one does."""
    one, two = relaxed(CPU), relaxed(CPU, rows=2)
    assert one["copied"] < two["copied"] <= 2 * one["copied"]


def test_waits_of_a_chunk_of_our_nodes():
    """Five are the host's, one for each pass; ours are the finished latents and the scores.

    The host's previews, where they are on, come to that: one a step.
    """
    marks = []
    model = host.watched(host.remembering(host.model()), marks)
    host.sample(model, steps=PASSES - 1, length=4 * FRAMES - 3)
    start, end = (marks[chunk * PASSES]["waits"] for chunk in (STEADY, STEADY + 1))
    waits = LEDGER.waits[start:end]
    assert sum("latent_preview" not in wait for wait in waits) == PASSES + 2
    assert sum("latent_preview" in wait for wait in waits) <= PASSES - 1
