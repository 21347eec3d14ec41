"""Where and in which precision frames lie that no chunk is reading.

Sinks and tail keep the model's precision; only history candidates may be stored in fp8.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max


@dataclass(frozen=True, kw_only=True)
class Storage:
    """`device` "gpu" is the device of the model, "cpu" is pinned host memory, "auto" decides.

    Raises:
        ValueError: an unknown device or dtype.
    """

    device: str = "auto"
    dtype: str = "model"

    def __post_init__(self) -> None:
        if self.device not in ("auto", "gpu", "cpu"):
            raise ValueError(f'reservoir_device is "{self.device}": use "auto", "gpu" or "cpu".')
        if self.dtype not in ("model", "fp8"):
            raise ValueError(f'reservoir_dtype is "{self.dtype}": use "model" or "fp8".')


class Packed(NamedTuple):
    """A tensor as it is stored: fp8 values with a scale per token and head, or as it was."""

    data: Tensor
    scale: Tensor | None = None


def pack(tensor: Tensor, dtype: str) -> Packed:
    """`[B, tokens, heads, head_dim]` to what is stored."""
    if dtype == "model":
        return Packed(tensor)
    scale = tensor.abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / FP8_MAX
    return Packed((tensor / scale).to(FP8), scale)


def unpack(packed: Packed, dtype: torch.dtype) -> Tensor:
    """The tensor again; exact for "model", rounded to about 3 bits of mantissa for fp8."""
    if packed.scale is None:
        return packed.data
    return (packed.data.to(torch.float32) * packed.scale).to(dtype)


def supports_fp8(device: torch.device) -> bool:
    """Whether tensors on `device` can be converted to fp8 and back; arithmetic is not needed."""
    try:
        pack(torch.ones(1, 1, 1, 1, device=device), "fp8").data.float()
    except (RuntimeError, TypeError):
        return False
    return True
