"""The keys and values that attention reads: memory and running chunk side by side.

One contiguous tensor per layer, filled from the right: the running chunk ends it and its memory
stands immediately before. Allocated once, on the device and in the precision of the model.
"""

import torch
from torch import Tensor

Span = tuple[int, int]  # frames before the chunk: (4, 1) are the fourth, third and second newest


class KeyValueBuffer:
    """Room for `frames` frames of `rows` rows in each layer; positions count frames."""

    def __init__(self, *, layers: int, rows: int, frames: int) -> None:
        self.frames = frames
        self._rows = rows
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * layers

    @property
    def bytes(self) -> int:
        """Bytes allocated for keys and values."""
        pairs = [pair for pair in self._layers if pair is not None]
        return sum(t.numel() * t.element_size() for pair in pairs for t in pair)

    def move(self, device: torch.device) -> None:
        """Go to a device with all that is held."""
        self._layers = [pair and (pair[0].to(device), pair[1].to(device)) for pair in self._layers]

    def append(
        self, layer: int, chunk_frames: int, keys: Tensor, values: Tensor, past: list[Span]
    ) -> tuple[Tensor, Tensor]:
        """Put the running chunk at the end; return it together with what is read before it.

        Args:
            keys, values: the chunk's, `[B, L, heads, head_dim]`, keys rotated.
            past: what is read before the chunk, oldest first; spans that touch are one span.

        Returns:
            `[B, (past + chunk) * tokens, heads, head_dim]`: views where one span ends at the chunk,
            copies elsewhere.
        """
        length = keys.shape[1]
        tokens = length // chunk_frames
        pair = self.reserve(layer, chunk_frames, keys)
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

    def place(self, layer: int, frames: list[tuple[int, slice, tuple[Tensor, Tensor]]]) -> None:
        """Put frames at positions, `(position, rows, pair)` each, in one launch.

        A pair is the frame's rotated keys and its values, `[rows, tokens, heads, D]`.
        """
        room = self._layers[layer]
        assert room is not None or not frames, f"layer {layer} has no room before its first chunk"
        targets = [
            stored[rows, position * new.shape[1] : (position + 1) * new.shape[1]]
            for position, rows, pair in frames
            for stored, new in zip(room or (), pair, strict=True)
        ]
        if targets:
            torch._foreach_copy_(targets, [new for *_, pair in frames for new in pair])

    def reserve(self, layer: int, chunk_frames: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The room of a layer, made for the keys of its first chunk `[B, L, heads, head_dim]`."""
        room = self._layers[layer]
        if room is None:
            tokens = self.frames * (like.shape[1] // chunk_frames)
            shape = (self._rows, tokens, *like.shape[2:])
            room = self._layers[layer] = (like.new_empty(shape), like.new_empty(shape))
        return room
