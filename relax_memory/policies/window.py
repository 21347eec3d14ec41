"""Sliding window with optional sinks; an unlimited window is dense attention to all past frames.

The usual baselines: a dense window as in Self Forcing, sinks and window as in StreamingLLM
(arXiv 2309.17453).
"""

from dataclasses import dataclass
from typing import ClassVar

from ..roles import Roles
from .base import Policy, Saving


@dataclass(frozen=True, kw_only=True)
class WindowMemory(Policy):
    """Remember the first `sink_frames` and the last `window_frames`; 0 window frames: all of them.

    Raises:
        ValueError: a negative size or an unknown `rope`.
    """

    sink_frames: int = 0
    window_frames: int = 18
    stored_by_choice: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sink_frames", "window_frames"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: use 0 or more.")

    @property
    def reach_frames(self) -> int | None:
        return self.window_frames or None

    def roles(self, past_frames: int, chunk_frames: int) -> Roles:
        """Roles after `past_frames`; the size of the coming chunk does not matter."""
        sinks = min(self.sink_frames, past_frames)
        tail_from = max(sinks, past_frames - self.window_frames) if self.window_frames else sinks
        return Roles(sink=tuple(range(sinks)), tail=tuple(range(tail_from, past_frames)))

    def savings(self) -> tuple[Saving, ...]:
        return (Saving("set window_frames to fewer frames, such as half", 0.5),)
