"""Rotates remembered keys with the model's own positions."""

import torch
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.wan.model import WanModel
from torch import Tensor


class TimeRope:
    """Rotates one frame's keys to a time with the model's own `rope_encode`.

    Angles are made in float32 whatever the model's precision, so that distant times stay exact.
    """

    def __init__(self, model: WanModel, transformer_options: dict) -> None:
        _, rows, columns = transformer_options["grid_sizes"]
        _, patch_rows, patch_columns = model.patch_size
        self._model = model
        self._size = (rows * patch_rows, columns * patch_columns)
        self._options = {"rope_options": transformer_options.get("rope_options")}
        self._scale = (self._options["rope_options"] or {}).get("scale_t", 1.0)
        self._angles: dict[int, Tensor] = {}

    def rotate(self, keys: Tensor, time: int) -> Tensor:
        """Keys of one frame `[B, tokens, heads, head_dim]`, rotated to `time`."""
        if time not in self._angles:
            if len(self._angles) > 64:
                self._angles.clear()
            self._angles[time] = self._model.rope_encode(
                1,
                *self._size,
                t_start=time * self._scale,
                device=keys.device,
                dtype=torch.float32,
                transformer_options=self._options,
            )
        return apply_rope1(keys, self._angles[time])
