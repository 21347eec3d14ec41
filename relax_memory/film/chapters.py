"""Chapters of a video: where a player can jump to, and what it calls the place.

Titles are people's text: of any length, in any script, of more than one line.
"""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TypedDict

LONGEST_TITLE = 60  # characters; 255 bytes is what one of the two places in an MP4 can hold
MILLISECONDS = Fraction(1, 1000)  # as fine as an MP4 keeps them


class Chapter(TypedDict):
    """A chapter as PyAV takes it."""

    id: int
    start: int
    end: int
    time_base: Fraction | None
    metadata: dict[str, str]


def chapters_of(starts: Sequence[tuple[float, str]], seconds: float) -> list[Chapter]:
    """Chapters that begin at these seconds, each with its title, in a video of so many.

    Those that would begin at its end or later are left out.
    """
    begun = [start for start in starts if start[0] < seconds]
    return [
        Chapter(
            id=number,
            start=_milliseconds(start),
            end=_milliseconds(end),
            time_base=MILLISECONDS,
            metadata={"title": shown(title) or str(number)},
        )
        for number, ((start, title), (end, _)) in enumerate(pairwise([*begun, (seconds, "")]), 1)
    ]


def _milliseconds(seconds: float) -> int:
    """Rounded up, or a player would jump to the picture before."""
    return math.ceil(round(seconds * 1000, 3))


def shown(title: str) -> str:
    """A title in one line that a file can hold."""
    encodable = title.encode("utf-8", "ignore").decode()
    text = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", encodable).strip()
    return text if len(text) <= LONGEST_TITLE else text[: LONGEST_TITLE - 1] + "…"
