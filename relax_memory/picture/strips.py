"""What one row looked back at, as a bitmap: one column a latent frame, downwards the age.

An age is how many latent frames a past frame lies before the chunk that reads it. Knows colours
and chunks, not where on the page the bitmap will lie.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..trace import Trace
from .chart import Chart, Colour

THIN, THICK = 4, 14

# Roles in Okabe and Ito's colours, scores in one hue from light to dark: told apart by colour-blind
# readers, and in grey by place and thickness.
TAIL, HISTORY, NO_SCORE = (0, 158, 115), (213, 94, 0), (150, 150, 150)
GIVEN_GROUND = (243, 243, 243)
LIGHT, DARK, SHADES = (247, 210, 150), (96, 28, 0), 22
SCORES: list[Colour] = [
    tuple(round(channel) for channel in colour)
    for part in (np.linspace(LIGHT, HISTORY, SHADES), np.linspace(HISTORY, DARK, SHADES))
    for colour in part
]


LEAST_DIFFERENCE = 0.02


@dataclass(frozen=True)
class ScoreColours:
    """Colours from `low` to `high`, the range of all finite scores; from 0 to 0 without any."""

    low: float
    high: float

    @classmethod
    def of(cls, trace: Trace) -> "ScoreColours":
        scores = [s for c in trace.chunks for row in c.scores for s in row if math.isfinite(s)]
        return cls(min(scores, default=0.0), max(scores, default=0.0))

    @property
    def differ(self) -> bool:
        """Whether the scores differ by what can matter; less is not worth a shade."""
        return self.high - self.low >= LEAST_DIFFERENCE

    def __call__(self, score: float | None) -> Colour:
        if score is None:
            return HISTORY
        if not math.isfinite(score):
            return NO_SCORE
        place = (score - self.low) / (self.high - self.low) if self.differ else 0.5
        return SCORES[round(place * (len(SCORES) - 1))]


@dataclass(frozen=True)
class Lanes:
    """Where an age lies: 1 frame ago at the top of `height` pixels, `oldest` at the bottom."""

    height: int
    oldest: int

    def y(self, age: float) -> int:
        """Pixels from the top to the middle of the frame that lies `age` frames back."""
        return round(THICK / 2 + (age - 1) / max(self.oldest - 1, 1) * (self.height - THICK))

    def rows(self, newest: int, oldest: int) -> slice:
        """Pixel rows of a run of ages."""
        top = max(self.y(newest - 0.5), 0)
        return slice(top, max(self.y(oldest + 0.5), top + THIN))

    def strip(self, chart: Chart, trace: Trace, row: int, *, scores: ScoreColours) -> np.ndarray:
        """The tail, the candidates thin and the history thick, `[height, frames, 3]`."""
        strip = chart.blank(self.height)
        for chunk in trace.chunks:
            now = chunk.frames[0]
            columns = strip[:, now : chunk.frames[-1] + 1]
            if chunk.given:
                columns[:] = GIVEN_GROUND
            for first, last in _runs(chunk.tail):
                columns[self.rows(now - last, now - first)] = TAIL
            chosen = chunk.history[row]
            of_row = chunk.scores[row] if chunk.scores else ()
            score = dict(zip(chunk.candidates, of_row, strict=False))
            for frame in sorted({*chunk.candidates, *chosen}, key=chosen.__contains__):
                middle = self.y(now - frame)
                half = (THICK if frame in chosen else THIN) // 2
                columns[max(middle - half, 0) : middle + half] = scores(score.get(frame))
        return strip


def _runs(frames: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """First and last frame of each run of consecutive frames."""
    breaks = [i for i, (a, b) in enumerate(pairwise(frames), 1) if b != a + 1]
    for start, stop in pairwise((0, *breaks, len(frames))):
        if stop > start:
            yield frames[start], frames[stop - 1]
