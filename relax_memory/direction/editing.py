"""Edits of a script, folded in and written as text again.

What is written means the same shots in this video, whatever grammar the text had: every cue stands
at the frame with which its chunk begins. Knows nothing of a run.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from .chunks import Chunks
from .grammar import parse
from .resolve import resolve, starts_of
from .script import Cue, Script, Time, Transition, mistake
from .writing import written


@dataclass(frozen=True, kw_only=True)
class Edit:
    """New words from a chunk on, up to the next shot.

    What it does not say stays as it is where a shot begins with that chunk already.

    Args:
        frame: of the video, with which the chunk begins.
        words: as they are, without marks; those for every shot come before them.
        transition: where it is no cut, the scene before goes on, whatever a head says here.
        blend_seconds: how long a blend takes; None is what the node says.
        moment_frame: of the video, to remember.
    """

    frame: int
    words: str
    transition: Transition | None = None
    blend_seconds: float | None = None
    moment_frame: int | None = None


def edited(
    text: str,
    edits: Sequence[Edit],
    chunks: Chunks,
    *,
    transition: Transition,
    blend_seconds: float,
) -> str:
    """The text with the edits in it, of which a later one holds over an earlier one.

    Args:
        transition, blend_seconds: what the node says.

    Raises:
        ScriptError: the text, or what becomes of it, cannot be put on this video.
    """
    if not edits:
        return text
    script = parse(text, transition)
    direction = resolve(script, chunks, transition=transition, blend_seconds=blend_seconds)
    begins = [chunks.start(shot.first_chunk) for shot in direction.shots]
    cues = dict(_placed(script.cues, begins, chunks))
    for edit in edits:
        frame = Fraction(edit.frame)
        assert chunks.start(chunks.nearest(frame)) == frame, "an edit begins with a chunk"
        cues[frame] = _changed(cues.get(frame, _empty(edit, script)), edit)
    new = Script(cues=tuple(cues[frame] for frame in sorted(cues)))
    for cue in new.cues:
        if not cue.words:
            raise mistake(cue, "this shot has no words: write some.")
    resolve(new, chunks, transition=transition, blend_seconds=blend_seconds)
    return written(new)


def _placed(
    cues: Sequence[Cue], begins: Sequence[int], chunks: Chunks
) -> Iterator[tuple[Fraction, Cue]]:
    """The cues without ends and lengths, and the frames at which they begin.

    Those that begin after the end of the video keep their time.
    """
    frame = Fraction(-1)
    for number, (cue, start) in enumerate(zip(cues, starts_of(cues, chunks), strict=True)):
        inside = number < len(begins)
        if inside or cue.start is None:
            after = max(frame + 1, Fraction(math.ceil(start)))
            frame = Fraction(begins[number]) if inside else after
            yield frame, replace(cue, start=_time(frame), end=None, duration=None)
        else:
            yield start, replace(cue, end=None)


def _empty(edit: Edit, script: Script) -> Cue:
    return Cue(text="", start=_time(edit.frame), shared=script.cues[0].shared)


def _changed(cue: Cue, edit: Edit) -> Cue:
    """A cue as an edit has it."""
    words = edit.words.strip()
    text = f"{cue.shared} {words}" if cue.shared else words
    cue = replace(cue, text=text, line=0, column=0)
    if edit.moment_frame is not None:
        cue = replace(cue, moment=_time(edit.moment_frame))
    if edit.transition:
        scene = cue.scene if edit.transition == "cut" else None
        cue = replace(cue, transition=edit.transition, blend=_blend(cue, edit), scene=scene)
    return cue


def _blend(cue: Cue, edit: Edit) -> Time | None:
    if edit.blend_seconds is None or edit.transition != "blend":
        return None
    time = Time(value=Fraction(f"{edit.blend_seconds:.3f}"), unit="s")
    if time.value <= 0:
        raise mistake(cue, f"a blend takes time, but this one {edit.blend_seconds:g} s.")
    return time


def _time(frame: Fraction | int) -> Time:
    return Time(value=Fraction(frame), unit="f")
