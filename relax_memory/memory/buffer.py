"""The keys and values that attention reads: memory and running chunk side by side.

One contiguous tensor per layer, filled from the right: the running chunk ends it and its memory
stands immediately before. Allocated once, on the device and in the precision of the model. Rows may
be those of several streams, which are then read and written together.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .transfer import Copies

Span = tuple[int, int]  # frames before the chunk: (4, 1) are the fourth, third and second newest
Rotate = Callable[[Tensor, tuple[int, ...]], object]
EVERY_ROW = slice(None)


class Placed(NamedTuple):
    """A frame's un-rotated keys and its values `[rows, tokens, heads, D]`, where they shall stand.

    `position` counts frames, from the end of the buffer where it is negative; `rows` of the buffer,
    with a start and an end; `time` is what the keys are rotated to.
    """

    position: int
    rows: slice
    time: int
    pair: tuple[Tensor, Tensor]


class KeyValueBuffer:
    """Room for `frames` frames of `rows` rows in each layer; positions count frames.

    Args:
        rotate: in place, each frame of keys `[B, frames * tokens, heads, head_dim]` to its time.
    """

    def __init__(self, *, layers: int, rows: int, frames: int, rotate: Rotate) -> None:
        self.layers = layers
        self.frames = frames
        self._rows = rows
        self._rotate = rotate
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * layers

    @property
    def bytes(self) -> int:
        """Bytes allocated for keys and values."""
        return self.bytes_of(slice(0, self._rows))

    def bytes_of(self, rows: slice) -> int:
        """Bytes of some rows."""
        pairs = [pair for pair in self._layers if pair is not None]
        return sum(t[rows].nbytes for pair in pairs for t in pair)

    def move(self, device: torch.device) -> None:
        """Go to a device with all that is held."""
        self._layers = [pair and (pair[0].to(device), pair[1].to(device)) for pair in self._layers]

    def resize(self, frames: int) -> None:
        """Have room for another number of frames; the last ones stay."""
        for layer, pair in enumerate(self._layers if frames != self.frames else ()):
            if pair is not None:
                tokens = frames * (pair[0].shape[1] // self.frames)
                self._layers[layer] = _resized(pair[0], tokens), _resized(pair[1], tokens)
        self.frames = frames

    def append(
        self,
        layer: int,
        chunk_frames: int,
        keys: Tensor,
        values: Tensor,
        past: list[Span],
        *,
        rows: slice = EVERY_ROW,
    ) -> tuple[Tensor, Tensor]:
        """Put the running chunk at the end; return it together with what is read before it.

        Args:
            keys, values: the chunk's, `[B, L, heads, head_dim]`, keys rotated.
            past: what is read before the chunk, oldest first; spans that touch are one span.
            rows: of the buffer, those of the chunk.

        Returns:
            `[B, (past + chunk) * tokens, heads, head_dim]`: views where one span ends at the chunk,
            copies elsewhere.
        """
        length = keys.shape[1]
        tokens = length // chunk_frames
        pair = self.reserve(layer, chunk_frames, keys)
        if rows not in (EVERY_ROW, slice(0, self._rows)):
            pair = pair[0][rows], pair[1][rows]
        torch._foreach_copy_([stored[:, -length:] for stored in pair], [keys, values])
        end = pair[0].shape[1] - length
        parts = [slice(end - first * tokens, end - last * tokens) for first, last in past]
        if not parts:
            whole = slice(end, None)
        elif len(parts) == 1 and parts[0].stop == end:
            whole = slice(parts[0].start, None)
        else:
            parts.append(slice(end, None))
            read_keys, read_values = (
                torch.cat([stored[:, part] for part in parts], dim=1) for stored in pair
            )
            return read_keys, read_values
        return pair[0][:, whole], pair[1][:, whole]

    def place(self, layer: int, placed: Sequence[Placed]) -> None:
        """Put frames in one launch, and rotate what stands side by side in one more."""
        room = self._layers[layer]
        assert room is not None or not placed, f"layer {layer} has no room before its first chunk"
        copies = Copies()
        for position, rows, _, pair in placed:
            for stored, new in zip(room or (), pair, strict=True):
                tokens = new.shape[1]
                copies.add(stored[rows, position * tokens : (position + 1) * tokens], new)
        copies.run()
        for rows, position, times in _blocks(placed):
            assert room is not None
            tokens = room[0].shape[1] // self.frames
            self._rotate(room[0][rows, position * tokens : (position + len(times)) * tokens], times)

    def reserve(self, layer: int, chunk_frames: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The room of a layer, made for the keys of its first chunk `[B, L, heads, head_dim]`."""
        room = self._layers[layer]
        if room is None:
            tokens = self.frames * (like.shape[1] // chunk_frames)
            shape = (self._rows, tokens, *like.shape[2:])
            room = self._layers[layer] = (like.new_empty(shape), like.new_empty(shape))
        return room


def _resized(tensor: Tensor, tokens: int) -> Tensor:
    kept = min(tokens, tensor.shape[1])
    room = tensor.new_empty(len(tensor), tokens, *tensor.shape[2:])
    room[:, -kept:] = tensor[:, -kept:]
    return room


def _blocks(placed: Sequence[Placed]) -> list[tuple[slice, int, tuple[int, ...]]]:
    """Rows and positions side by side: `(rows, first position, times)`, each frame in one block."""
    times: dict[int, dict[int, int]] = {}
    for position, rows, time, _ in placed:
        for row in range(rows.start, rows.stop):
            times.setdefault(row, {})[position] = time
    blocks: dict[tuple[int, tuple[int, ...]], list[slice]] = {}
    for row in sorted(times):
        for first, run in _runs(times[row]):
            rows_of = blocks.setdefault((first, run), [])
            if rows_of and rows_of[-1].stop == row:
                rows_of[-1] = slice(rows_of[-1].start, row + 1)
            else:
                rows_of.append(slice(row, row + 1))
    return [(rows, first, run) for (first, run), each in blocks.items() for rows in each]


def _runs(times: dict[int, int]) -> list[tuple[int, tuple[int, ...]]]:
    """Positions that follow one another, as `(first, times)`."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    for position in sorted(times):
        first, run = runs[-1] if runs else (position, ())
        if first + len(run) == position and runs:
            runs[-1] = first, (*run, times[position])
        else:
            runs.append((position, (times[position],)))
    return runs
