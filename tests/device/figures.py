"""What a steady chunk costs beside plain passes of the model: launches, bytes, copies, waits.

All are linear in layers: models of two and three layers say what thirty cost. Launches and waits
hardly depend on sizes, so small models tell them; bytes do, which needs no numbers at all.
"""

from device import host, tensors

# isort: split
import contextlib
import functools

import comfy.samplers
import tiny
import torch

LAYERS = 30
SIGMAS = torch.tensor([1.0, 0.9375, 0.8333, 0.625, 0.0])
PASSES = 5  # four steps and the clean pass
STEADY, FRAMES = 5, 24  # a chunk that finds all candidates, and is remembered for two later ones
CPU, FP8 = {"reservoir_device": "cpu"}, {"reservoir_dtype": "fp8"}
REGIMES = {  # of the memory node, and of sampling
    "gpu": ({}, {}),
    "cpu": (CPU, {}),
    "gpu fp8": (FP8, {}),
    "cpu fp8": (CPU | FP8, {}),
    "cfg": ({}, {"cfg": 3.0}),
    "batch": ({}, {"rows": 2}),
    "cpu batch cfg": (CPU, {"rows": 2, "cfg": 3.0}),
}


class PlainPasses(comfy.samplers.Sampler):
    """As many calls of the model as a chunk has, and nothing else."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
        for sigma in [*sigmas, *sigmas]:
            model_wrap(noise, sigma * noise.new_ones(len(noise)), **extra_args)
        return noise


@contextlib.contextmanager
def wan(layers: int):
    """Wan 1.3B in bf16 but for its layers, as shapes alone."""
    model = host.model(dtype=torch.bfloat16, layers=layers, dim=1536, ffn_dim=8960)
    tensors.SHAPES_ONLY = True
    try:
        yield model
        host.unload_all()
    finally:
        tensors.SHAPES_ONLY = False


@contextlib.contextmanager
def small(layers: int):
    yield host.model(layers=layers)


SIZES = {  # a model, rows and columns of its latents, tokens of its text
    "small": (small, (4, 4), 8),
    "832x480": (wan, (60, 104), 512),
}


def run(model, sampler, *, size: str, frames: int, cfg: float = 1.0, rows: int = 1) -> list[dict]:
    """The marks of custom sampling by the host, which has no waits of our nodes."""
    _, latent, text = SIZES[size]
    marks = []
    guider = comfy.samplers.CFGGuider(host.watched(model, marks))
    guider.set_conds(tiny.conditioning(1, text), tiny.conditioning(2, text))
    guider.set_cfg(cfg)
    noise = torch.randn(rows, 16, frames, *latent, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        guider.sample(noise, noise * 0, sampler, SIGMAS, disable_pbar=True, seed=1)
    return marks


def with_30_layers(chunk, size: str) -> dict[str, int]:
    """Of each figure of `chunk(model)`, which grows by as much with every layer."""
    costs = []
    for layers in (2, 3):
        with SIZES[size][0](layers) as model:
            costs.append(chunk(model))
    two, three = costs
    return {key: two[key] + (LAYERS - 2) * (three[key] - two[key]) for key in two}


@functools.cache
def plain(size: str = "small", **inputs) -> dict[str, int]:
    """Of five plain passes."""

    def chunk(model) -> dict[str, int]:
        marks = run(model, PlainPasses(), size=size, frames=3, **inputs)
        return {key: marks[-1][key] - marks[-1 - PASSES][key] for key in marks[-1]}

    return with_30_layers(chunk, size)


def relaxed(memory: dict, size: str = "small", **inputs) -> dict[str, int]:
    """Of a steady chunk with memory."""
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)

    def chunk(model) -> dict[str, int]:
        marks = run(host.remembering(model, **memory), sampler, size=size, frames=FRAMES, **inputs)
        return host.chunk_cost(marks, STEADY, PASSES)

    return with_30_layers(chunk, size)
