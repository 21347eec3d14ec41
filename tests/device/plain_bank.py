"""A bank that cannot go wrong: it keeps everything, each frame in a place of its own."""

from collections.abc import Iterable

from relax_memory.memory.storage import pack, unpack


class PlainBank:
    """What `Memory` asks of a bank; on the device of the keys, and no slot is used twice."""

    bytes = 0

    def __init__(self, *, dtype: str = "model", **_) -> None:
        self._dtype = dtype
        self._kept: set[int] = set()
        self._stored: dict = {}

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(sorted(self._kept))

    def keep(self, frames: Iterable[int]) -> None:
        self._kept = set(frames)

    def slot(self, frame: int) -> int | None:
        return frame if frame in self._kept else None

    def store(self, layer: int, frames: dict, _copies: object = None) -> None:
        for frame, pair in frames.items():
            parts = [pack(tensor.clone(), self._dtype) for tensor in pair]
            self._stored[layer, frame] = parts, pair[0].dtype

    def fetch(self, layer: int, slot: int, row: int | None = None) -> None:
        pass

    def load(self, layer: int, slot: int, row: int | None = None) -> tuple:
        parts, dtype = self._stored[layer, slot]
        rows = slice(None) if row is None else slice(row, row + 1)
        return tuple(unpack(part.map(lambda each: each[rows]), dtype) for part in parts)
