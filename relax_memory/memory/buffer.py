"""The keys and values that attention reads: memory and running chunk side by side.

One contiguous tensor per layer, filled from the right: the running chunk ends it and its memory
stands immediately before. Allocated once, on the device and in the precision of the model.
"""

from torch import Tensor


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

    def append(
        self, layer: int, attended_frames: int, chunk_frames: int, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put the running chunk at the end; return it together with the memory before it.

        Args:
            keys, values: the chunk's, `[B, L, heads, head_dim]`, keys rotated.

        Returns:
            Views `[B, (attended + chunk) * tokens, heads, head_dim]`.
        """
        length = keys.shape[1]
        read = length + attended_frames * (length // chunk_frames)
        out = []
        for stored, new in zip(self._pair(layer, chunk_frames, keys), (keys, values), strict=True):
            stored[:, -length:] = new
            out.append(stored[:, -read:])
        return out[0], out[1]

    def place(self, layer: int, position: int, rows: slice, pair: tuple) -> None:
        """Put one frame's rotated keys and values `[rows, tokens, heads, D]` at a position."""
        for stored, new in zip(self._layers[layer], pair, strict=True):
            tokens = new.shape[1]
            stored[rows, position * tokens : (position + 1) * tokens] = new

    def _pair(self, layer: int, chunk_frames: int, like: Tensor) -> tuple[Tensor, Tensor]:
        if self._layers[layer] is None:
            tokens = self.frames * (like.shape[1] // chunk_frames)
            shape = (self._rows, tokens, *like.shape[2:])
            self._layers[layer] = (like.new_empty(shape), like.new_empty(shape))
        return self._layers[layer]
