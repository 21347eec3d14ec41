"""Reads a script: stamps, bars, heads and a GLOBAL line, in time linear in its length.

A shot begins at a stamp at the beginning of a line, at a bar, or at a `Scene name:` head. Escapes
make text of what would be a mark. Every mistake is told with line and column. What a bracket says
is read by `marks`.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from .marks import (
    BRACKET,
    Mark,
    Mistake,
    check_inside,
    is_mark,
    is_number,
    read_bracket,
    read_time,
    set_moment,
)
from .scenes import scenes_of
from .script import Cue, Script, ScriptError, Time, Transition, check_order
from .source import BAR_OR_LINE, GLOBAL, SCENE, Source, after_blanks, unescaped


def parse(text: str, transition: Transition = "keep") -> Script:
    """The script that a text means.

    Args:
        transition: how a shot begins that does not say it.

    Raises:
        ScriptError: a mistake, with its line and column and what to write instead.
    """
    source = Source(text.removeprefix("\ufeff"))
    try:
        source.take_shared()
        cues = _cues(source)
    except Mistake as error:
        raise ScriptError(*source.place(error.at), error.sentence) from None
    check_order(cues)
    scenes_of(cues, transition)
    return Script(cues=tuple(cues))


@dataclass(kw_only=True)
class _Shot:
    """A shot as it is found: its words lie from `begin` to `end`, marks before them left out."""

    at: int
    begin: int
    end: int = 0
    after_bar: bool = False
    stamp: Mark | None = None
    scene: str | None = None


def _cues(source: Source) -> list[Cue]:
    shots = _shots(source.text)
    stamps = [shot.stamp for shot in shots if shot.stamp]
    stamped = bool(stamps)
    if stamped:
        _check_stamped(shots, stamps)
    alone = len(shots) == 1 and not stamped and shots[0].scene is None
    cues = []
    for shot in shots:
        mark = shot.stamp or Mark()
        if not alone:
            shot.end, mark = _take_end(source.text, shot, bracket=not stamped and len(shots) > 1)
        if GLOBAL.match(source.text, shot.begin):
            raise Mistake(
                shot.begin,
                "GLOBAL takes a line of its own: write it above, or \\GLOBAL: among the words.",
            )
        check_inside(source.text, shot.begin, shot.end, alone=alone)
        words = unescaped(source.text[shot.begin : shot.end])
        if not words and not alone:
            raise Mistake(shot.at, "this shot has no words: write some, or remove it.")
        line, column = source.place(shot.at)
        start = mark.first or Time(value=Fraction(0), unit="s")
        cues.append(
            Cue(
                text=f"{source.shared} {words}" if source.shared else words,
                start=start if stamped else None,
                end=mark.last,
                duration=None if stamped else mark.first,
                transition=mark.transition,
                blend=mark.blend,
                scene=shot.scene,
                moment=mark.moment,
                line=line,
                column=column,
                shared=source.shared,
            )
        )
    return cues


def _shots(text: str) -> list[_Shot]:
    """Where shots begin and end, with the marks before their words."""
    shots = [_Shot(at=len(text) - len(text.lstrip()), begin=0)]
    _begin(shots, text, 0, 0, stamps=True)
    for found in BAR_OR_LINE.finditer(text):
        bar, line_end = found.groups()
        if bar:
            shots[-1].end = found.start()
            at = after_blanks(text, found.end())
            _check_after_bar(text, at)
            shots.append(_Shot(at=at, begin=at, after_bar=True))
        if bar or line_end:
            _begin(shots, text, found.start(), found.end(), stamps=not bar)
    shots[-1].end = len(text)
    return shots


def _begin(shots: list[_Shot], text: str, end: int, at: int, *, stamps: bool) -> None:
    """Begin a shot where marks stand at `at`; the one before it ends at `end`.

    Marks belong to the shot before them as long as that has no words and none of their kind.
    """
    first = at = after_blanks(text, at)
    stamp = scene = None
    while True:
        if stamps and stamp is None and text.startswith("[", at):
            stamp, at = _stamp(text, at)
        elif scene is None and (head := SCENE.match(text, at)):
            scene, at = _name(head), head.end()
        else:
            break
        at = after_blanks(text, at)
    if stamp is None and scene is None:
        return
    last = shots[-1]
    clash = (last.stamp and stamp) or (last.scene and scene)
    if clash or text[last.begin : max(end, last.begin)].strip():
        last.end = end
        last = _Shot(at=first, begin=at)
        shots.append(last)
    elif not last.after_bar and last.stamp is None and last.scene is None:
        last.at = first
    last.stamp, last.scene, last.begin = last.stamp or stamp, last.scene or scene, at


def _stamp(text: str, at: int) -> tuple[Mark, int]:
    """The stamp at the beginning of a line, and where it ends."""
    bracket = BRACKET.match(text, at)
    if bracket is None:
        raise Mistake(
            at, "this bracket is not closed: write ], or \\[ for a bracket among the words."
        )
    mark = read_bracket(bracket)
    if mark.first is None:
        raise Mistake(
            at, "a stamp begins with a time: write [5s], or \\[ for a bracket among the words."
        )
    return mark, bracket.end()


def _name(head: re.Match) -> str:
    name = " ".join((head[1] or "").split())
    if not name:
        raise Mistake(
            head.start(), "a scene has a name: write Scene kitchen:, or \\Scene: among the words."
        )
    return name


def _check_after_bar(text: str, at: int) -> None:
    """Refuse behind a bar what belongs elsewhere."""
    if is_mark(BRACKET.match(text, at), time=False):
        raise Mistake(
            at,
            "between bars a bracket stands at the end of its shot: write a cat [5s] | a dog, or "
            "\\[ for a bracket among the words.",
        )


def _check_stamped(shots: list[_Shot], stamps: list[Mark]) -> None:
    """Refuse what takes no stamp beside shots that have one."""
    for shot in shots:
        if shot.after_bar:
            raise Mistake(
                shot.at,
                "bars share the video, stamps give times: use one of the two, or \\| for a bar "
                "among the words.",
            )
    for shot in shots[1:]:
        if shot.stamp is None:
            raise Mistake(
                shot.at, "this scene has no time, but other shots have: write [5s] behind it."
            )
    if shots[0].stamp is None and (time := stamps[0].first) and not time.value:
        raise Mistake(
            shots[0].at,
            "words before the first stamp begin at 0, as that stamp does: write them behind it.",
        )


def _take_end(text: str, shot: _Shot, *, bracket: bool) -> tuple[int, Mark]:
    """Where the words of a shot end, and its mark with what stands behind them."""
    mark, end = shot.stamp or Mark(), shot.end
    for _ in range(2):  # a bracket and a moment, in either order
        end = shot.begin + len(text[shot.begin : end].rstrip())
        word = (text[shot.begin : end].rsplit(maxsplit=1) or [""])[-1]
        opening = text.rfind("[", shot.begin, end)
        if word.startswith("@") and is_number(word[1:]) and "]" not in word:
            end -= len(word)
            set_moment(mark, _moment(word, end), end)
        elif bracket and opening >= 0 and not _is_escaped(text, opening):
            found = BRACKET.fullmatch(text, opening, end)
            if found is None or not found[1].strip() or _is_escaped(text, found.end(1)):
                break
            moment, mark, end, bracket = mark.moment, _length(found), opening, False
            if moment:
                set_moment(mark, moment, found.end())
    return end, mark


def _moment(word: str, at: int) -> Time:
    try:
        return read_time(word[1:].lower(), at + 1)
    except Mistake as error:
        raise Mistake(at, f"{error.sentence} For an @ among the words write \\@.") from None


def _length(bracket: re.Match) -> Mark:
    """The mark at the end of a shot that has no start."""
    mark = read_bracket(bracket)
    if mark.last:
        raise Mistake(
            bracket.start(), "here a time is how long the shot takes, without an end: write [5s]."
        )
    if mark.first and not mark.first.value:
        raise Mistake(bracket.start(), "a shot takes some time: write [5s].")
    return mark


def _is_escaped(text: str, at: int) -> bool:
    before = at
    while before and text[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1
