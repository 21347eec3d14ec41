"""What stands in brackets: `[5s-10s blend 2s @0:02]`, with `#` or `@` behind it if one likes.

Knows one mark and the text around it; where marks stand in a script is the grammar's.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from .script import TRANSITIONS, Time, Transition

BRACKET = re.compile(r"\[([^\[\]\r\n]*)\]((?:#|@[0-9][^\s#@\[\]|]*)*)")
_WORD = re.compile(r"[-–#]|@[^\s\-–#@]*|[^\s\-–#@]+")
_DASHES = ("-", "–")
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_FRAMES = re.compile(r"([0-9]{1,9})f")
_CLOCK = re.compile(r"([0-9]{1,9}):([0-5][0-9](?:\.[0-9]{1,9})?)")
_INSIDE = re.compile(  # escapes, and what may be meant as a mark
    r"\\.|(\[)|(?<!\S)(?:(#)(?!\S)|(@[^\S\r\n]*(?:[0-9.]+[sf]|[0-9]+:[0-9.]+)(?![^\s,.;!?])))",
    re.DOTALL | re.IGNORECASE,
)
_UNCLOSED = re.compile(
    r"\[[^\S\r\n]*(?:[0-9.]+[sf]|[0-9]+:[0-9.]+)[^\[\]\r\n]*(?:[\[\r\n]|\Z)", re.IGNORECASE
)
_BARE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class Mistake(Exception):
    """A mistake at an offset of the text; the grammar knows line and column."""

    def __init__(self, at: int, sentence: str) -> None:
        super().__init__(sentence)
        self.at = at
        self.sentence = sentence


@dataclass(kw_only=True)
class Mark:
    """What one shot is given: times in the order of the range, and how it begins."""

    first: Time | None = None
    last: Time | None = None
    transition: Transition | None = None
    blend: Time | None = None
    moment: Time | None = None


def read_bracket(match: re.Match) -> Mark:
    """The mark of a match of `BRACKET`.

    Raises:
        Mistake: what it says is no mark.
    """
    text, words = match.string, deque[tuple[str, int]]()
    for group in (1, 2):
        words += ((word[0].lower(), word.start()) for word in _words(text, *match.span(group)))
    mark = Mark()
    if words and is_number(words[0][0]):
        mark.first = read_time(*words.popleft())
        if words and words[0][0] in _DASHES:
            _, at = words.popleft()
            if not words:
                raise Mistake(at, "a range has an end: write [5s-10s].")
            mark.last = read_time(*words.popleft())
    while words:
        _read_option(mark, words)
    return mark


def _words(text: str, begin: int, end: int) -> Iterable[re.Match]:
    return _WORD.finditer(text, begin, end)


def _read_option(mark: Mark, words: deque[tuple[str, int]]) -> None:
    """The next option, with the time that belongs to it."""
    word, at = words.popleft()
    if word.startswith("@"):
        set_moment(mark, read_time(word[1:], at + 1), at)
    elif word == "#" or word in TRANSITIONS:
        transition: Transition = next((name for name in TRANSITIONS if name == word), "cut")
        if mark.transition and not mark.transition == transition == "cut":
            raise Mistake(
                at, f"a shot begins in one way, but {mark.transition} and {word} are two: keep one."
            )
        mark.transition = transition
        if word == "blend" and words and is_number(words[0][0]):
            blend_at = words[0][1]
            mark.blend = read_time(*words.popleft())
            if not mark.blend.value:
                raise Mistake(blend_at, "a blend takes time: write blend 1s, or keep.")
    elif is_number(word):
        raise Mistake(at, f"{word!r} is one time too many: write the start first, as in [5s cut].")
    else:
        raise Mistake(
            at,
            f"{word[:20]!r} is no time, and none of keep, recache, blend, cut, # and @0:02: write "
            "one of these, or \\[ for a bracket among the words.",
        )


def check_inside(text: str, begin: int, end: int, *, alone: bool) -> None:
    """Refuse among words what would be meant as a mark.

    Args:
        alone: it is a prompt without any mark, in which only a time in brackets is one.
    """
    for found in _INSIDE.finditer(text, begin, end):
        at, (bracket, cut, moment) = found.start(), found.groups()
        if bracket and is_mark(BRACKET.match(text, at, end), time=True):
            raise Mistake(
                at,
                "this time stands among the words: a start stands at the beginning of a line, and "
                "how long a shot takes before its bar. Write \\[ for a bracket among the words.",
            )
        if bracket and not alone and is_mark(BRACKET.match(text, at, end), time=False):
            raise Mistake(
                at,
                "this stands among the words: how a shot begins stands behind its time, [5s cut], "
                "or between bars at its end. Write \\[ for a bracket among the words.",
            )
        if bracket and not alone and _UNCLOSED.match(text, at, end):
            raise Mistake(
                at, "this bracket is not closed: write ], or \\[ for a bracket among the words."
            )
        if cut and not alone:
            raise Mistake(
                at,
                "this # stands among the words: a cut stands in the brackets, [5s #]. Write \\# "
                "for a # among the words.",
            )
        if moment and not alone:
            raise Mistake(
                at,
                "this moment stands among the words: write it in the brackets, [5s @0:02], or at "
                "the end of the shot. Write \\@ for an @ among the words.",
            )


def is_mark(bracket: re.Match | None, *, time: bool) -> bool:
    """Whether a bracket can be read, with a `time` or with anything at all."""
    if bracket is None or not bracket[1].strip():
        return False
    try:
        mark = read_bracket(bracket)
    except Mistake:
        return False
    return not time or mark.first is not None


def set_moment(mark: Mark, moment: Time, at: int) -> None:
    """Let the shot remember a moment; `at` is where it is said."""
    if mark.moment:
        raise Mistake(at, "a shot remembers one moment: remove one @.")
    mark.moment = moment


def read_time(word: str, at: int) -> Time:
    """A time in small letters: `5s`, `80f` or `0:05`.

    Raises:
        Mistake: at the offset `at`.
    """
    if match := _SECONDS.fullmatch(word):
        return Time(value=Fraction(match[1]), unit="s")
    if match := _FRAMES.fullmatch(word):
        return Time(value=Fraction(match[1]), unit="f")
    if match := _CLOCK.fullmatch(word):
        return Time(value=60 * int(match[1]) + Fraction(match[2]), unit="s")
    if not word:
        raise Mistake(at, "a moment has its time right behind the @: write @0:02.")
    if _BARE.fullmatch(word):
        raise Mistake(
            at, f"{word} has no unit: write {word}s for seconds or {word}f for frames of the video."
        )
    raise Mistake(at, f"{word[:20]!r} is no time: write 5s, 0:05 or, for frames of the video, 80f.")


def is_number(word: str) -> bool:
    return word[:1] in tuple("0123456789.")
