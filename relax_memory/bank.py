"""Storage of committed frames: un-rotated keys and values per layer, in preallocated slots.

Knows no policy and no roles: it is told which frames to keep and which to forget.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class Bank:
    """Slots for `capacity_frames` frames in each of `layers` layers.

    A frame has the same slot in every layer. Memory is allocated when a layer first stores
    something, and never again.
    """

    def __init__(self, *, layers: int, capacity_frames: int) -> None:
        self._free = list(reversed(range(capacity_frames)))
        self._capacity_frames = capacity_frames
        self._slots: dict[int, int] = {}
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers

    @property
    def frames(self) -> tuple[int, ...]:
        """Frames in storage, oldest first."""
        return tuple(sorted(self._slots))

    @property
    def bytes(self) -> int:
        """Bytes allocated for keys and values."""
        tensors = [t for t in (*self._keys, *self._values) if t is not None]
        return sum(t.numel() * t.element_size() for t in tensors)

    def keep(self, frames: Iterable[int]) -> None:
        """Hold a slot for exactly these frames: others are forgotten, new ones await `store`.

        Raises:
            RuntimeError: more frames than slots.
        """
        wanted = set(frames)
        for frame in [f for f in self._slots if f not in wanted]:
            self._free.append(self._slots.pop(frame))
        for frame in sorted(wanted - self._slots.keys()):
            if not self._free:
                raise RuntimeError(
                    f"The bank has {self._capacity_frames} slots and needs one for frame {frame}."
                )
            self._slots[frame] = self._free.pop()

    def store(self, layer: int, frame: int, keys: Tensor, values: Tensor) -> None:
        """Copy one frame's un-rotated keys and values into its slot: `[B, tokens, heads, D]`."""
        stored_keys, stored_values = self._layer(layer, keys)
        slot = self._slots[frame]
        stored_keys[slot].copy_(keys)
        stored_values[slot].copy_(values)

    def slot(self, frame: int) -> int | None:
        """The slot that holds `frame`, or None."""
        return self._slots.get(frame)

    def load(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Views of the un-rotated keys and values `[B, tokens, heads, head_dim]` in a slot.

        A slot that `keep` took from a frame still holds it until `store` fills it anew.
        """
        return self._keys[layer][slot], self._values[layer][slot]

    def _layer(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        if self._keys[layer] is None:
            shape = (self._capacity_frames, *like.shape)
            self._keys[layer] = torch.empty(shape, dtype=like.dtype, device=like.device)
            self._values[layer] = torch.empty_like(self._keys[layer])
        return self._keys[layer], self._values[layer]
