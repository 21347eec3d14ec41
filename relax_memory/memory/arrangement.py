"""What a chunk reads, and what must move for that, as plain data.

Neither chooses nor moves anything but by asking a bank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..passes import Chunk
from .bank import Bank, Pair

Scores = tuple[tuple[float, ...], ...]  # of each row, one for each candidate


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What each row of a chunk reads: history and scores are one tuple per row."""

    chunk: Chunk
    history: tuple[tuple[int, ...], ...]
    scores: Scores


class Pinned(NamedTuple):
    """A moment of the film, by its frame there."""

    film_frame: int


class FrameRows(NamedTuple):
    """A frame of the scene or a moment of the film, for one row or for all of them (None)."""

    frame: int | Pinned
    row: int | None = None

    @property
    def rows(self) -> slice:
        return slice(None) if self.row is None else slice(self.row, self.row + 1)


class Move(NamedTuple):
    """What is put, rotated to `time`, at a `position` of the buffer, counted from its end."""

    what: FrameRows
    position: int
    time: int


class Place(NamedTuple):
    """Where a stored frame lies."""

    bank: Bank
    slot: int


class Arrangement(NamedTuple):
    """What must move before a chunk is read, and where that is stored."""

    moves: list[Move]
    places: dict[FrameRows, Place]

    def fetch(self, layer: int) -> None:
        """Start bringing it to the device from where it is stored."""
        for what, place in self.places.items():
            place.bank.fetch(layer, place.slot, what.row)

    def load(self, layer: int) -> dict[FrameRows, Pair]:
        return {what: p.bank.load(layer, p.slot, what.row) for what, p in self.places.items()}
