"""The first words of prompts, by which people tell shots apart in a list or a picture."""

from collections.abc import Sequence
from os.path import commonprefix

LETTERS = 40


def beginnings(texts: Sequence[str]) -> tuple[str, ...]:
    """The first words of each text in one line of at most 40 letters.

    Where different texts would look the same, because all begin as a GLOBAL line says, what all
    share is left out.
    """
    words = ["".join(c if c.isprintable() else " " for c in text).split() for text in texts]
    told = tuple(map(_beginning, words))
    if len(set(told)) < len(set(map(tuple, words))):
        shared = len(commonprefix(words))
        told = tuple(_beginning(own[shared:] or own) for own in words)
    return told


def _beginning(words: Sequence[str]) -> str:
    """Whole words, or a part of the first where that is long."""
    line = " ".join(words)
    return (
        line if len(line) <= LETTERS else line[: LETTERS + 1].rpartition(" ")[0] or line[:LETTERS]
    )
