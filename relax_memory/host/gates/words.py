"""How the gates speak: names in a row, and a line for what takes no part."""

import logging
from collections.abc import Iterable

from ..notice import note

logger = logging.getLogger(__name__)


def listed(names: Iterable[object]) -> str:
    """Names in order, each once: "a, b, c"."""
    return ", ".join(sorted({str(name) for name in names}))


def say(notes: Iterable[str]) -> None:
    """Say in the log and on the node what takes no part; nothing, if there is nothing."""
    text = " ".join(sentence.rstrip(".") + "." for sentence in notes)
    if text:
        logger.warning(text)
        note(text)
