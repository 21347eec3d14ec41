"""A script as it was written: its cues in order, each with its words and times.

Knows no video: `resolve` says which chunks a script means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

Transition = Literal["keep", "recache", "blend", "cut"]
TRANSITIONS: tuple[Transition, ...] = ("keep", "recache", "blend", "cut")


@dataclass(frozen=True, kw_only=True)
class Time:
    """A time as it was written: in seconds, or in frames of the video ("f")."""

    value: Fraction
    unit: Literal["s", "f"]

    def video_frames(self, fps: Fraction) -> Fraction:
        return self.value * fps if self.unit == "s" else self.value

    def seconds(self, fps: Fraction) -> Fraction:
        return self.value if self.unit == "s" else self.value / fps

    def __str__(self) -> str:
        return f"{float(self.value):g}{self.unit}"


@dataclass(frozen=True, kw_only=True)
class Cue:
    """One shot as it was written.

    Args:
        text: its words, those for every shot before them.
        shared: those for every shot; "" for none.
        start, end: where it stands in the video; `start` None where no cue has a time.
        duration: how long it takes, where cues stand one after the other.
        transition: how it begins; None is what the node says.
        blend: how long a blend takes; None is what the node says.
        scene: the name that a `Scene name:` head before it gives.
        moment: what it must remember.
        line, column: where it begins, from 1; line 0 is a cue that nobody wrote.
    """

    text: str
    start: Time | None = None
    end: Time | None = None
    duration: Time | None = None
    transition: Transition | None = None
    blend: Time | None = None
    scene: str | None = None
    moment: Time | None = None
    line: int = 0
    column: int = 0
    shared: str = ""

    @property
    def words(self) -> str:
        """Its own."""
        return self.text.removeprefix(self.shared).lstrip()

    @property
    def where(self) -> str:
        """ "line 3", or "5s" for one that nobody wrote."""
        return f"line {self.line}" if self.line else str(self.start)


@dataclass(frozen=True, kw_only=True)
class Script:
    cues: tuple[Cue, ...]


class ScriptError(ValueError):
    """A mistake in a script: where it is, and what to write instead."""

    def __init__(self, line: int, column: int, sentence: str) -> None:
        super().__init__(f"line {line}, column {column}: {sentence}" if line else sentence)
        self.line = line
        self.column = column


def mistake(cue: Cue, sentence: str) -> ScriptError:
    """A mistake of this cue."""
    told = sentence if cue.line else f"shot at {cue.where}: {sentence}"
    return ScriptError(cue.line, cue.column, told)


def check_order(cues: Sequence[Cue], fps: Fraction | None = None) -> None:
    """Refuse times that go back, overlap or leave gaps.

    Without `fps`, seconds and frames are not compared.

    Raises:
        ScriptError: at the cue that is wrong.
    """
    first = cues[0]
    if first.start and first.start.value:
        raise mistake(
            first,
            f"the first shot begins at {first.start}, and nothing is said of the time before it: "
            "write [0s].",
        )
    for cue in cues:
        if cue.start and cue.end and _reaches(cue.start, cue.end, fps):
            raise mistake(
                cue, f"this shot begins at {cue.start} and ends at {cue.end}: write a later end."
            )
        if cue.start and cue.moment and _reaches(cue.moment, cue.start, fps):
            raise mistake(
                cue,
                f"@{cue.moment} is not yet there: this shot begins at {cue.start}. Write an "
                "earlier moment.",
            )
    for before, cue in pairwise(cues):
        if before.start is None or cue.start is None:
            if before.start is not cue.start:
                raise mistake(
                    cue, "some shots have a start and some have none: give it to all or to none."
                )
            continue
        if _reaches(before.start, cue.start, fps):
            raise mistake(
                cue,
                f"times go back: this shot begins at {cue.start}, but the one before it at "
                f"{before.start}: write a later time.",
            )
        if before.end and (apart := _apart(before.end, cue.start, fps)):
            what = "leave a gap" if apart > 0 else "overlap"
            raise mistake(
                cue,
                f"shots {what}: this one begins at {cue.start}, but the one before it ends at "
                f"{before.end}: write the same time, or leave the end out.",
            )


def _reaches(first: Time, second: Time, fps: Fraction | None) -> bool:
    """Whether `first` is not before `second`; no where that is not known."""
    apart = _apart(first, second, fps)
    return apart is not None and apart <= 0


def _apart(first: Time, second: Time, fps: Fraction | None) -> Fraction | None:
    """How much later `second` is; None where that is not known."""
    if first.unit == second.unit:
        return second.value - first.value
    return None if fps is None else second.video_frames(fps) - first.video_frames(fps)
