"""What a rollout did, as plain data: which past frames every chunk read, and why.

A trace holds Python ints, floats and strings only, so that it can be kept, compared and drawn
without tensors and without the host. It does not know how the choice was made (`scoring`) nor how
it is shown (`timeline`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .grid import WAN


@dataclass(frozen=True, kw_only=True)
class ChunkTrace:
    """One chunk and its memory. All frames are latent frames, numbered in the whole video.

    `history` holds the chosen frames, one tuple per row (a row is one sample of one conditioning).
    `scores` holds one score per candidate for each row; it, or a row of it, is empty where there
    was nothing to choose. A score may be NaN: a trace tells what happened. `scene_frame` is the
    first of its frames as the scene counts them; None where that is the number in the whole video.
    `pinned` are moments of the video, of whichever scene, and `words` the first of its shot, in one
    line, empty without shots. Raises `ValueError` for numbers that no rollout can produce.
    """

    index: int
    frames: tuple[int, ...]
    given: bool
    sink: tuple[int, ...]
    candidates: tuple[int, ...]
    tail: tuple[int, ...]
    history: tuple[tuple[int, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    seconds: float
    scene: int = 0
    scene_frame: int | None = None
    pinned: tuple[int, ...] = ()
    words: str = ""

    def __post_init__(self) -> None:
        where = f"chunk {self.index}"
        self._check_place(where)
        roles = {
            "pinned": self.pinned,
            "sink": self.sink,
            "candidates": self.candidates,
            "tail": self.tail,
        }
        roles |= {f"history of row {row}": chosen for row, chosen in enumerate(self.history)}
        for role, frames in roles.items():
            if any(a >= b for a, b in pairwise(frames)):
                raise ValueError(f"{where}: {role} must be in temporal order, got {frames}")
            if frames and not 0 <= frames[0] <= frames[-1] < self.frames[0]:
                raise ValueError(
                    f"{where}: {role} must lie before frame {self.frames[0]}, got {frames}"
                )
        if self.scores and len(self.scores) != len(self.history):
            raise ValueError(
                f"{where}: {len(self.scores)} rows of scores for {len(self.history)} of history"
            )
        for row in self.scores:
            if row and len(row) != len(self.candidates):
                raise ValueError(
                    f"{where}: {len(row)} scores for {len(self.candidates)} candidates"
                )

    def _check_place(self, where: str) -> None:
        """Where the chunk lies in the video and in its scene, and how long it took."""
        if self.index < 0:
            raise ValueError(f"{where}: chunks are numbered from 0")
        if not self.frames or any(b != a + 1 for a, b in pairwise(self.frames)):
            raise ValueError(
                f"{where}: frames must be consecutive and not empty, got {self.frames}"
            )
        if self.scene < 0:
            raise ValueError(f"{where}: scenes are numbered from 0, got {self.scene}")
        if self.scene_frame is not None and not 0 <= self.scene_frame <= self.frames[0]:
            raise ValueError(
                f"{where}: frame {self.frames[0]} of the video cannot be frame {self.scene_frame} "
                "of a scene"
            )
        if not self.seconds >= 0:
            raise ValueError(f"{where}: seconds must be 0 or more, got {self.seconds}")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The chunks of one rollout in order, and a label for every row, such as "positive 0".

    `fps` counts video frames per second of the finished video. Raises `ValueError` where chunks
    leave a gap or a chunk has another number of rows than there are labels.
    """

    chunks: tuple[ChunkTrace, ...]
    rows: tuple[str, ...]
    fps: float = WAN.fps

    def __post_init__(self) -> None:
        if not 0 < self.fps < float("inf"):
            raise ValueError(f"fps must be above 0, got {self.fps}")
        if self.chunks and not self.rows:
            raise ValueError("a trace with chunks needs one row or more, got none")
        first_frame = 0
        for index, chunk in enumerate(self.chunks):
            if (chunk.index, chunk.frames[0]) != (index, first_frame):
                raise ValueError(
                    f"chunk {index} must start at frame {first_frame}, "
                    f"got chunk {chunk.index} at frame {chunk.frames[0]}"
                )
            if len(chunk.history) != len(self.rows):
                raise ValueError(
                    f"chunk {index} has {len(chunk.history)} rows of history, "
                    f"the trace has {len(self.rows)}"
                )
            first_frame = chunk.frames[-1] + 1


def joined(finished: Sequence[tuple[ChunkTrace, tuple[str, ...]]], *, fps: float) -> Trace:
    """The trace of chunks that each come with their own labels.

    A row may begin late: a conditioning that takes part from a later chunk on has read nothing
    before. Rows are ordered as the last chunk has them.
    """
    rows = finished[-1][1] if finished else ()
    return Trace(chunks=tuple(_with_rows(*chunk, rows) for chunk in finished), rows=rows, fps=fps)


def _with_rows(chunk: ChunkTrace, has: tuple[str, ...], rows: tuple[str, ...]) -> ChunkTrace:
    if has == rows:
        return chunk
    history = dict(zip(has, chunk.history, strict=True))
    scores = dict(zip(has, chunk.scores, strict=False))
    return replace(
        chunk,
        history=tuple(history.get(row, ()) for row in rows),
        scores=tuple(scores.get(row, ()) for row in rows),
    )
