"""The first words of prompts, by which people tell them apart in a list or a picture."""

from collections.abc import Sequence
from os.path import commonprefix

LETTERS = 40


def beginning(text: str) -> str:
    """The first words of a text in one line of at most 40 letters."""
    return _line(_words(text))


def beginnings(texts: Sequence[str]) -> tuple[str, ...]:
    """The beginning of each text; where different ones look the same, without what all share."""
    words = [*map(_words, texts)]
    told = tuple(map(_line, words))
    if len(set(told)) < len(set(map(tuple, words))):
        shared = len(commonprefix(words))
        told = tuple(_line(own[shared:] or own) for own in words)
    return told


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isprintable() else " " for letter in text).split()


def _line(words: Sequence[str]) -> str:
    """Whole words, or a part of the first where that is long."""
    line = " ".join(words)
    return (
        line if len(line) <= LETTERS else line[: LETTERS + 1].rpartition(" ")[0] or line[:LETTERS]
    )
