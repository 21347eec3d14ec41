"""Storage of committed frames: un-rotated keys and values per layer, in preallocated slots.

Knows no policy and no roles: it is told which frames to keep and which to forget.
"""

from collections.abc import Iterable
from functools import partial
from operator import itemgetter

import torch
from torch import Tensor

from .storage import Packed, pack, room, unpack
from .transfer import Copies, Crossing, Transfer

Pair = tuple[Tensor, Tensor]


class Bank:
    """Slots for `capacity_frames` frames in each of `layers` layers.

    A frame has the same slot in every layer. Memory is allocated when a layer first stores
    something, and again only where more slots are asked for.

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
        self.capacity_frames = capacity_frames
        self._dtype = dtype
        self._transfer = transfer
        self._slots: dict[int, int] = {}
        self._layers: list[list[Packed] | None] = [None] * layers  # of keys and of values
        self._arriving: dict[tuple[int, int, int | None], Crossing] = {}
        self._model_dtype = torch.float32

    @property
    def frames(self) -> tuple[int, ...]:
        """Frames in storage, oldest first."""
        return tuple(sorted(self._slots))

    @property
    def bytes(self) -> int:
        """Bytes allocated for keys and values."""
        layers = [layer for layer in self._layers if layer is not None]
        return sum(part.nbytes for layer in layers for packed in layer for part in packed.parts)

    def move(self, device: torch.device) -> None:
        """Go to a device with all that is held; what lies in host memory stays there."""
        if self._transfer is None:
            self._layers = [
                layer and [packed.map(lambda part: part.to(device)) for packed in layer]
                for layer in self._layers
            ]

    def grow(self, capacity_frames: int) -> None:
        """Have so many slots, if there are fewer: layer by layer, with what they hold."""
        if capacity_frames <= self.capacity_frames:
            return
        if self._transfer is not None:
            self._transfer.settle()
        self._free[:0] = reversed(range(self.capacity_frames, capacity_frames))
        self.capacity_frames = capacity_frames
        for index, layer in enumerate(self._layers):
            self._layers[index] = layer and [packed.map(self._grown) for packed in layer]

    def _grown(self, part: Tensor) -> Tensor:
        grown = self._empty(part, (self.capacity_frames, *part.shape[1:]), part.dtype)
        grown[: len(part)] = part
        return grown

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
                    f"The bank has {self.capacity_frames} slots and needs one for frame {frame}."
                )
            self._slots[frame] = self._free.pop()

    def slot(self, frame: int) -> int | None:
        """The slot that holds `frame`, or None."""
        return self._slots.get(frame)

    def store(self, layer: int, frames: dict[int, Pair], copies: Copies | None = None) -> None:
        """Copy frames' un-rotated keys and values `[B, tokens, heads, D]` into their slots.

        What can be copied together with others is left to `copies` where they are given.
        """
        now = Copies(self._transfer) if copies is None else copies
        for frame, pair in frames.items():
            slot = self._slots[frame]
            for tensor, stored in zip(pair, self._stored(layer, pair), strict=True):
                target = stored.map(itemgetter(slot))
                if self._transfer is None and self._dtype == "fp8":
                    pack(tensor, self._dtype, out=target)
                else:
                    for place, part in zip(
                        target.parts, pack(tensor, self._dtype).parts, strict=True
                    ):
                        now.add(place, part)
        if copies is None:
            now.run()

    def fetch(self, layer: int, slot: int, row: int | None = None) -> None:
        """Start bringing a slot's content, all rows or one, to the device if it lies elsewhere.

        A layer that never ran has none: some nodes leave layers out of one conditioning.
        """
        pair = self._layers[layer]
        if self._transfer and pair and (layer, slot, row) not in self._arriving:
            parts = [_row(part[slot], row) for packed in pair for part in packed.parts]
            self._arriving[layer, slot, row] = self._transfer.fetch(parts)

    def load(self, layer: int, slot: int, row: int | None = None) -> Pair:
        """Un-rotated keys and values `[B, tokens, heads, head_dim]` of a slot, on the device.

        A slot that `keep` took from a frame still holds it until `store` fills it anew.
        """
        self.fetch(layer, slot, row)
        stored = self._layers[layer]
        assert stored is not None, f"layer {layer} has stored nothing"
        if self._transfer is None:
            pair = [packed.map(lambda part: _row(part[slot], row)) for packed in stored]
        else:
            arrived = iter(self._transfer.take(self._arriving.pop((layer, slot, row))))
            pair = [packed.map(lambda _: next(arrived)) for packed in stored]
        keys, values = (unpack(packed, self._model_dtype) for packed in pair)
        return keys, values

    def _stored(self, layer: int, pair: Pair) -> list[Packed]:
        """What a layer stores of keys and values, `[slots, B, tokens, heads, D]` each."""
        stored = self._layers[layer]
        if stored is None:
            self._model_dtype = pair[0].dtype
            shape = (self.capacity_frames, *pair[0].shape)
            stored = [room(shape, self._dtype, partial(self._empty, tensor)) for tensor in pair]
            self._layers[layer] = stored
        return stored

    def _empty(self, like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None) -> Tensor:
        if self._transfer is None:
            return like.new_empty(shape, dtype=dtype)
        return self._transfer.empty(shape, dtype or like.dtype)


def _row(tensor: Tensor, row: int | None) -> Tensor:
    """One row of a frame `[B, ...]`, or all of them."""
    return tensor if row is None else tensor[row : row + 1]
