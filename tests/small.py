"""Small models of the real architectures with weights from a seed: for tests, benchmarks, lab.

The host's own classes give names and shapes. Weights are drawn so that activations keep their size
and random latents decode to pictures with contrast. Import it after telling the host whether to use
a GPU: `tiny` does, and `benchmarks/common.py`.
"""

from collections.abc import Callable

import comfy.ops
import torch
from comfy.ldm.wan.model import WanModel
from comfy.ldm.wan.vae import WanVAE
from comfy.taesd.taehv import TAEHV
from torch import Tensor, nn

HEAD_DIM = 128
TEXT_DIM = 4096
CAUSAL_METADATA = {"config": '{"transformer": {"causal_ar": true}}'}  # as the host knows such files
CHANNELS = {"wan": 16, "taehv": 16, "taehv22": 48}  # of latents


def transformer(
    dim: int = 256,
    layers: int = 3,
    seed: int = 0,
    *,
    ffn_dim: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Weights of a Wan 2.1 text-to-video model; each head is 128 wide."""
    shape = {"dim": dim, "ffn_dim": ffn_dim or 2 * dim, "num_heads": dim // HEAD_DIM}
    operations = comfy.ops.manual_cast

    def build() -> nn.Module:
        return WanModel(operations=operations, dtype=torch.float32, num_layers=layers, **shape)

    return _drawn(build, seed, torch.device(device), dtype)


def vae(kind: str = "wan", dim: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a Wan 2.1 VAE with `dim` channels, or of a TAEHV, which has one size."""

    def build() -> nn.Module:
        if kind == "wan":
            return WanVAE(dim=dim, z_dim=CHANNELS[kind], temperal_downsample=[False, True, True])
        return TAEHV(CHANNELS[kind])

    return _drawn(build, seed, torch.device("cpu"), torch.float32)


def _drawn(
    build: Callable[[], nn.Module], seed: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shapes = {name: weight.shape for name, weight in build().state_dict().items()}
        return {name: _weight(name, shape, device).to(dtype) for name, shape in shapes.items()}


def _weight(name: str, shape: torch.Size, device: torch.device) -> Tensor:
    if name.endswith("gamma"):
        return torch.ones(shape, device=device)
    scale = shape[1:].numel() ** -0.5 if len(shape) > 1 else 0.1
    of_a_norm = "norm" in name and name.endswith("weight")
    return torch.randn(shape, device=device) * scale + of_a_norm
