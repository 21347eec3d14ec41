"""Rotates remembered keys with the model's own positions."""

import comfy.quant_ops
import torch
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.wan.model import WanModel
from torch import Tensor

from ...policies.base import RopeMode

MOST_FRAMES = 64  # whose angles are kept, 1.6 MB each at 832x480
USUAL_FRAMES = 12  # as many are in hybrid positions, once memory is full


def angle_bytes(tokens: int, head_dim: int, *, read_frames: int, rope: RopeMode) -> int:
    """What angles take beside a rollout that reads so many frames of so many tokens."""
    few = rope == "hybrid" and read_frames <= USUAL_FRAMES
    frames = USUAL_FRAMES if few else MOST_FRAMES
    return frames * tokens * head_dim * 2 * torch.float32.itemsize  # two by two for a pair


class TimeRope:
    """Rotates frames' keys to times with the model's own `rope_encode`.

    Angles are made in float32 whatever the model's precision, so that distant times stay exact.
    """

    def __init__(self, model: WanModel, transformer_options: dict) -> None:
        _, rows, columns = transformer_options["grid_sizes"]
        _, patch_rows, patch_columns = model.patch_size
        self._model = model
        self._size = (rows * patch_rows, columns * patch_columns)
        self._options = {"rope_options": transformer_options.get("rope_options")}
        self._scale = (self._options["rope_options"] or {}).get("scale_t", 1.0)
        self._angles: dict[tuple[int, ...], Tensor] = {}

    def rotate(self, keys: Tensor, times: tuple[int, ...]) -> None:
        """Rotate keys `[B, frames * tokens, heads, head_dim]` in place, each frame to its time."""
        if times not in self._angles:
            if sum(map(len, self._angles)) + len(times) > MOST_FRAMES:
                self._angles.clear()
            self._angles[times] = torch.cat([self._angle(time, keys) for time in times], dim=1)
        angles, in_place = self._angles[times], getattr(comfy.quant_ops.ck, "apply_rope1_", None)
        if in_place is not None:
            in_place(keys, angles)
        else:  # older hosts have none
            keys.copy_(apply_rope1(keys, angles))

    def _angle(self, time: int, keys: Tensor) -> Tensor:
        return self._model.rope_encode(
            1,
            *self._size,
            t_start=time * self._scale,
            device=keys.device,
            dtype=torch.float32,
            transformer_options=self._options,
        )
