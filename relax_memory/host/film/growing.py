"""Videos that a node shows while they grow, and says where they lie when it is stopped."""

import time
from collections.abc import Iterable
from pathlib import Path

from ..notice import note, show_videos
from .output import name_in_output, saved_result

# A player starts over with what is shown anew, so that comes more and more seldom.
FIRST_SECONDS, GROWTH, LAST_SECONDS = 3, 1.5, 30


class Growing:
    """The videos of one node, in order."""

    def __init__(self) -> None:
        self._pause_seconds: float = FIRST_SECONDS
        self._shown_seconds = -float("inf")

    def grown(self, videos: Iterable[Path]) -> None:
        """Show the videos, each with something in it, unless they were shown a moment ago."""
        now = time.monotonic()
        if now - self._shown_seconds >= self._pause_seconds:
            self._shown_seconds = now
            self._pause_seconds = min(GROWTH * self._pause_seconds, LAST_SECONDS)
            show_videos([saved_result(video) for video in videos])

    def stopped(self, videos: Iterable[Path]) -> None:
        """Show what is left of the videos, and say where."""
        left = list(videos)
        if left:
            show_videos([saved_result(video) for video in left])
            note(f"The video so far: {', '.join(map(name_in_output, left))}")
