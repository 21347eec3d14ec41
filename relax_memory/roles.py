"""Which past frames a chunk may read, and in which role.

Frame ids are latent frames counted from the beginning of the whole video. Knows no tensors and no
policy. Roles follow arXiv 2603.21366, section 3: Sink, History, Tail.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Role = Literal["pinned", "sink", "history", "tail"]
ROLES: tuple[Role, ...] = ("pinned", "sink", "history", "tail")  # in attention order


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The frames that one chunk may read; `history_frames` of the `candidates` will be read.

    `pinned` are moments of the film, which may belong to another scene, and so are numbered in the
    film; everything else is numbered in the scene.

    Raises:
        ValueError: frames are not strictly ascending from sink to tail, or more history than
            candidates is asked for.
    """

    sink: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()
    history_frames: int = 0
    pinned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(a >= b for a, b in pairwise(self.readable)):
            raise ValueError(f"Roles need ascending frames, got {self.readable}.")
        if not 0 <= self.history_frames <= len(self.candidates):
            raise ValueError(
                f"Roles need 0 to {len(self.candidates)} history frames, got {self.history_frames}."
            )

    @property
    def readable(self) -> tuple[int, ...]:
        """Every frame of the scene that may be read, whatever is chosen."""
        return self.sink + self.candidates + self.tail

    @property
    def sizes(self) -> tuple[tuple[Role, int], ...]:
        """How many frames each role has, in attention order."""
        return (
            ("pinned", len(self.pinned)),
            ("sink", len(self.sink)),
            ("history", self.history_frames),
            ("tail", len(self.tail)),
        )

    @property
    def attended_frames(self) -> int:
        """How many past frames may be read at once."""
        return len(self.pinned) + len(self.sink) + self.history_frames + len(self.tail)

    @property
    def has_choice(self) -> bool:
        """Whether the history depends on content."""
        return 0 < self.history_frames < len(self.candidates)

    def attended(self, history: tuple[int, ...]) -> tuple[int, ...]:
        """Past frames of the scene in attention order, once the history is chosen."""
        return self.sink + history + self.tail
