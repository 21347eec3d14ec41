"""The text of a script as the grammar walks it: lines and columns, escapes, and the GLOBAL line.

Knows where a head or a bar stands, not what a shot is.
"""

import re
from bisect import bisect_right

from .marks import Mistake, check_inside

# Blanks, and what is seen as little: zero-width characters come with text from web pages.
_BLANK = r"(?:[^\S\r\n]|[\u200b-\u200f\u2060\ufeff])*"
_LINE_END = r"\r\n?|\n"
_LINE_BEGIN = r"(?:\A|(?<=[\r\n]))"
_HEAD = r"scene(?:[^\S\r\n]([^:：\[\]|,.;!?\r\n]*))?[:：]"
_SHARED_HEAD = rf"global{_BLANK}[:：]"
_BLANKS = re.compile(_BLANK)
SCENE = re.compile(_HEAD, re.IGNORECASE)
GLOBAL = re.compile(_SHARED_HEAD, re.IGNORECASE)
_SHARED = re.compile(
    rf"{_LINE_BEGIN}{_BLANK}({_SHARED_HEAD})([^\r\n]*)(?:{_LINE_END}|\Z)", re.IGNORECASE
)
BAR_OR_LINE = re.compile(rf"\\[^\r\n]|(\|)|({_LINE_END})")  # where a shot may begin
_ESCAPE = re.compile(
    rf"\\([\[\]|@#\\])|({_LINE_BEGIN}{_BLANK})\\(?={_HEAD}|{_SHARED_HEAD})", re.IGNORECASE
)
_TO_ESCAPE = re.compile(
    rf"[\[\]|\\]|@(?=[^\S\r\n]*[0-9.])|(?<!\S)#(?!\S)|({_LINE_BEGIN}{_BLANK})(?={_HEAD}|{_SHARED_HEAD})",
    re.IGNORECASE,
)


class Source:
    """A text without its GLOBAL line, and the lines and columns of its offsets."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.shared = ""
        self._starts = [0, *(end.end() for end in re.finditer(_LINE_END, text))]
        self._left_out = len(text), 0

    def take_shared(self) -> None:
        """Take the GLOBAL line out of the text.

        Raises:
            Mistake: it is not one line with words, before some shot.
        """
        lines = list(_SHARED.finditer(self.text))
        if not lines:
            return
        line = lines[0]
        if len(lines) > 1:
            raise Mistake(lines[1].start(1), "there are two GLOBAL lines: write all in one.")
        for found in BAR_OR_LINE.finditer(self.text, *line.span(2)):
            if found[1]:
                raise Mistake(
                    found.start(),
                    "GLOBAL takes a whole line: begin the first shot in the next one.",
                )
        check_inside(self.text, *line.span(2), alone=False)
        self.shared = unescaped(line[2])
        if not self.shared:
            raise Mistake(line.start(1), "GLOBAL has no words: write them behind it, or remove it.")
        without = self.text[: line.start()] + self.text[line.end() :]
        if not without.strip():
            raise Mistake(
                line.start(1),
                "GLOBAL stands before every shot, but there is none: write one in the next line.",
            )
        self.text = without
        self._left_out = line.start(), len(line[0])

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of an offset of the text, from 1."""
        begin, length = self._left_out
        at += length if at >= begin else 0
        line = bisect_right(self._starts, at)
        return line, at - self._starts[line - 1] + 1


def after_blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    assert match is not None, "blanks may be none"
    return match.end()


def unescaped(words: str) -> str:
    """Words without what stands around them, escapes read."""
    return _ESCAPE.sub(lambda found: found[1] or found[2] or "", words.strip())


def escaped(words: str) -> str:
    """Words so that no mark is found in them; `unescaped` reads them."""
    return _TO_ESCAPE.sub(
        lambda found: f"\\{found[0]}" if found[1] is None else f"{found[1]}\\", words
    )
