"""Storage of committed frames: un-rotated keys and values per layer, in preallocated slots.

Knows no policy and no roles: it is told which frames to keep and which to forget.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from .storage import Packed, pack, unpack
from .transfer import Arrival, Transfer

Pair = tuple[Tensor, Tensor]


class Bank:
    """Slots for `capacity_frames` frames in each of `layers` layers.

    A frame has the same slot in every layer. Memory is allocated when a layer first stores
    something, and never again.

    Args:
        dtype: "model" or "fp8", see `storage`.
        transfer: stores in host memory through this; None: on the device of the keys.
    """

    def __init__(
        self,
        *,
        layers: int,
        capacity_frames: int,
        dtype: str = "model",
        transfer: Transfer | None = None,
    ) -> None:
        self._free = list(reversed(range(capacity_frames)))
        self._capacity_frames = capacity_frames
        self._dtype = dtype
        self._transfer = transfer
        self._slots: dict[int, int] = {}
        self._layers: list[list[Tensor] | None] = [None] * layers
        self._arriving: dict[tuple[int, int], list[Arrival]] = {}
        self._model_dtype = torch.float32

    @property
    def frames(self) -> tuple[int, ...]:
        """Frames in storage, oldest first."""
        return tuple(sorted(self._slots))

    @property
    def bytes(self) -> int:
        """Bytes allocated for keys and values."""
        tensors = [tensor for layer in self._layers if layer is not None for tensor in layer]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

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

    def slot(self, frame: int) -> int | None:
        """The slot that holds `frame`, or None."""
        return self._slots.get(frame)

    def store(self, layer: int, frame: int, keys: Tensor, values: Tensor) -> None:
        """Copy one frame's un-rotated keys and values into its slot: `[B, tokens, heads, D]`."""
        parts = [
            part
            for tensor in (keys, values)
            for part in pack(tensor, self._dtype)
            if part is not None
        ]
        self._model_dtype = keys.dtype
        if self._layers[layer] is None:
            self._layers[layer] = [self._empty(part) for part in parts]
        for stored, part in zip(self._layers[layer], parts, strict=True):
            target = stored[self._slots[frame]]
            if self._transfer is None:
                target.copy_(part)
            else:
                self._transfer.send(part, target)

    def fetch(self, layer: int, slot: int) -> None:
        """Start bringing a slot's content to the device, if it lies elsewhere.

        A layer that never ran has none: some nodes leave layers out of one conditioning.
        """
        stored_parts = self._layers[layer]
        if self._transfer and stored_parts and (layer, slot) not in self._arriving:
            parts = [stored[slot] for stored in stored_parts]
            self._arriving[layer, slot] = [self._transfer.fetch(part) for part in parts]

    def load(self, layer: int, slot: int) -> Pair:
        """Un-rotated keys and values `[B, tokens, heads, head_dim]` of a slot, on the device.

        A slot that `keep` took from a frame still holds it until `store` fills it anew.
        """
        self.fetch(layer, slot)
        if self._transfer is None:
            parts = [stored[slot] for stored in self._layers[layer]]
        else:
            parts = [arrival.tensor() for arrival in self._arriving.pop((layer, slot))]
        half = len(parts) // 2
        return (
            unpack(Packed(*parts[:half]), self._model_dtype),
            unpack(Packed(*parts[half:]), self._model_dtype),
        )

    def _empty(self, part: Tensor) -> Tensor:
        shape = (self._capacity_frames, *part.shape)
        if self._transfer is None:
            return part.new_empty(shape)
        return self._transfer.empty(shape, part.dtype)
