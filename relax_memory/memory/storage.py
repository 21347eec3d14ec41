"""Where and in which precision frames lie that no chunk is reading.

Sinks and tail keep the model's precision; only history candidates may be stored in fp8.
"""

from __future__ import annotations

from collections.abc import Callable
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


class Held(NamedTuple):
    """Bytes of a rollout that are there already, of those that it needs."""

    device_bytes: int = 0
    host_bytes: int = 0


NOTHING = Held()


class Packed(NamedTuple):
    """A tensor as it is stored: fp8 values with a scale per token and head, or as it was."""

    data: Tensor
    scale: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor, ...]:
        return (self.data,) if self.scale is None else (self.data, self.scale)

    def map(self, function: Callable[[Tensor], Tensor]) -> Packed:
        """Each part changed by `function`."""
        return Packed(*map(function, self.parts))


def room(
    shape: tuple[int, ...], dtype: str, empty: Callable[[tuple, torch.dtype | None], Tensor]
) -> Packed:
    """What tensors of a shape are stored in; `empty` makes it, None is the model's precision."""
    if dtype == "model":
        return Packed(empty(shape, None))
    return Packed(empty(shape, FP8), empty((*shape[:-1], 1), torch.float32))


def pack(tensor: Tensor, dtype: str, out: Packed | None = None) -> Packed:
    """`[B, tokens, heads, head_dim]` to what is stored, in fp8 into `out` where that is given."""
    if dtype == "model":
        return Packed(tensor)
    data, scale = out or room(
        tensor.shape, dtype, lambda shape, kind: tensor.new_empty(shape, dtype=kind)
    )
    assert scale is not None, "what fp8 is packed into has room for scales"
    largest = {"ord": torch.inf, "dim": -1, "keepdim": True, "dtype": torch.float32}
    torch.linalg.vector_norm(tensor, **largest, out=scale).clamp_(min=1e-12).div_(FP8_MAX)
    return Packed(torch.div(tensor, scale, out=data), scale)


def unpack(packed: Packed, dtype: torch.dtype) -> Tensor:
    """The tensor again; exact for "model", rounded to about 3 bits of mantissa for fp8."""
    if packed.scale is None:
        return packed.data
    tensor = torch.empty(packed.data.shape, dtype=dtype, device=packed.data.device)
    return torch.mul(packed.data.to(torch.float32), packed.scale, out=tensor)


def supports_fp8(device: torch.device) -> bool:
    """Whether tensors on `device` can be converted to fp8 and back; arithmetic is not needed."""
    try:
        unpack(pack(torch.ones(1, 1, 1, 1, device=device), "fp8"), torch.float32)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError):
        return False
    return True
