"""Window memory, literally, and its cases."""

from dataclasses import dataclass
from typing import ClassVar

from parity.cases import Case
from parity.reference import Choice


@dataclass(frozen=True, kw_only=True)
class Window:
    """The first `sink_frames` and the newest `window_frames`; a window of 0 has no limit."""

    sink_frames: int = 0
    window_frames: int = 18
    rope: str = "hybrid"
    node: ClassVar[str] = "RelaxForcingWindowMemory"

    def choose(self, cached: list[int]) -> Choice:
        if self.window_frames == 0 or len(cached) <= self.sink_frames + self.window_frames:
            return Choice(sink=(), history=(), tail=tuple(cached))
        newest = tuple(cached[len(cached) - self.window_frames :])
        return Choice(sink=tuple(cached[: self.sink_frames]), history=(), tail=newest)


CASES = {
    "window": Case(memory=Window(window_frames=6)),
    "window of 4": Case(memory=Window(window_frames=4)),
    "window with sinks": Case(memory=Window(sink_frames=2, window_frames=4)),
    "window with sinks, absolute": Case(
        memory=Window(sink_frames=2, window_frames=4, rope="absolute")
    ),
    "window without limit": Case(memory=Window(window_frames=0)),
    "window, frame by frame": Case(memory=Window(sink_frames=1, window_frames=3), n=1, frames=16),
    "window, cfg, batch of 2": Case(
        memory=Window(sink_frames=1, window_frames=4), cfg=3.0, batch=2, frames=15
    ),
    "from 4 frames, window": Case(memory=Window(sink_frames=1, window_frames=3), given=4),
    "no clean pass, window": Case(clean_pass=False, memory=Window(sink_frames=1, window_frames=4)),
}
