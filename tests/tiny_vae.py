"""Small real VAEs with weights from a fixed seed, loaded as the host's VAELoader does.

Weights are scaled so that random latents decode to pictures with contrast.
"""

import functools

import tiny  # noqa: F401  (tells the host to run on the CPU)
import torch

import comfy.sd  # isort: skip
from comfy.ldm.wan.vae import WanVAE  # isort: skip
from comfy.taesd.taehv import TAEHV  # isort: skip

CHANNELS = {"wan": 16, "taehv": 16, "taehv22": 48}


@functools.cache
def vae(kind: str = "wan", dim: int = 8) -> comfy.sd.VAE:
    """`wan` is the Wan 2.1 VAE with `dim` channels; `taehv` and `taehv22` are full-size TAEHVs."""
    return comfy.sd.VAE(sd=state_dict(kind, dim))


def state_dict(kind: str = "wan", dim: int = 8, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights in the layout of the files that people have."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "wan":
            model = WanVAE(dim=dim, z_dim=16, temperal_downsample=[False, True, True])
        else:
            model = TAEHV(CHANNELS[kind])
        return {name: _weight(name, weight) for name, weight in model.state_dict().items()}


def latents(frames: int, *, kind: str = "wan", batch: int = 1, size: int = 4, seed: int = 0):
    """A random video latent `[batch, C, frames, size, size]`."""
    shape = (batch, CHANNELS[kind], frames, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _weight(name: str, weight: torch.Tensor) -> torch.Tensor:
    if "gamma" in name:
        return torch.ones_like(weight)
    return torch.randn(weight.shape) * (weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1)
