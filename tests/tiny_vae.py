"""Small real VAEs with weights from a fixed seed, loaded as the host's VAELoader does."""

import functools

import tiny  # noqa: F401  (tells the host to run on the CPU)
import torch
from small import CHANNELS
from small import vae as state_dict

import comfy.sd  # isort: skip


@functools.cache
def vae(kind: str = "wan", dim: int = 8) -> comfy.sd.VAE:
    """`wan` is the Wan 2.1 VAE with `dim` channels; `taehv` and `taehv22` are full-size TAEHVs."""
    return comfy.sd.VAE(sd=state_dict(kind, dim))


def latents(frames: int, *, kind: str = "wan", batch: int = 1, size: int = 4, seed: int = 0):
    """A random video latent `[batch, C, frames, size, size]`."""
    shape = (batch, CHANNELS[kind], frames, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
