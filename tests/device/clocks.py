"""The order of work on streams, by vector clocks: a race is found for every timing, not by luck.

A stream counts what it launches. A clock says of each stream up to which launch all is over for
whoever holds the clock: a stream, an event, or the host. Two accesses to the same bytes, one of
them a write, race unless the later one's clock has the earlier one.
"""

import contextlib
import weakref

import torch
from device.ledger import LEDGER, line


def numbered(device) -> torch.device:
    """A device with its number: "cuda" and None are the current card, as torch has it."""
    device = (
        torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda")
    )
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


class Clock(dict):
    """`{stream: launches that are over}`."""

    def join(self, other: "Clock") -> None:
        for stream, tick in other.items():
            if tick > self.get(stream, 0):
                self[stream] = tick


HOST = Clock()  # what the host has waited for


class Stream:
    """Stands in for torch.cuda.Stream."""

    all: weakref.WeakSet = weakref.WeakSet()

    def __init__(self, device=None, priority: int = 0, **_) -> None:
        self.device = numbered(device)
        self.clock, self.ticks = Clock(), 0
        self.stream_id = self.cuda_stream = id(self)
        Stream.all.add(self)

    def launch(self) -> None:
        """The host queues the next piece of work; what it has waited for is over by then."""
        self.clock.join(HOST)
        self.ticks += 1
        self.clock[self] = self.ticks

    def wait_event(self, event: "Event") -> None:
        self.clock.join(event.clock)

    def wait_stream(self, stream: "Stream") -> None:
        self.clock.join(stream.clock)

    def record_event(self, event: "Event | None" = None) -> "Event":
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        LEDGER.wait("stream.synchronize")
        HOST.join(self.clock)

    def query(self) -> bool:
        return True

    def __enter__(self) -> "Stream":
        self._entered = contextlib.ExitStack()
        self._entered.enter_context(torch.cuda.stream(self))
        return self

    def __exit__(self, *error) -> None:
        self._entered.close()


class Event:
    """Stands in for torch.cuda.Event."""

    def __init__(self, enable_timing: bool = False, **_) -> None:
        self.clock = Clock()

    def record(self, stream: Stream | None = None) -> None:
        self.clock = Clock((stream or torch.cuda.current_stream()).clock)

    def wait(self, stream: Stream | None = None) -> None:
        (stream or torch.cuda.current_stream()).wait_event(self)

    def synchronize(self) -> None:
        LEDGER.wait("event.synchronize")
        HOST.join(self.clock)

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: "Event") -> float:
        return 1.0


class Region:
    """Memory that streams touch: an allocation on a card, or pinned memory of the host."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._accesses: list[tuple] = []  # (stream, tick, first byte, end, writes, line)

    def inherit(self, stream: Stream, size: int) -> None:
        """What a stream has launched so far may still work on what was here before."""
        self._accesses = [(stream, stream.ticks, 0, size, True, "what had this memory before")]

    def begin(self) -> None:
        """Nothing was here before."""
        self._accesses = []

    def touch(self, stream: Stream | None, span: tuple[int, int], *, writes: bool) -> None:
        """Report a race with an earlier access; a stream's access is remembered for later ones.

        The host (stream None) leaves none: what it launches later comes after by itself.
        """
        clock = HOST if stream is None else stream.clock
        start, end = span
        kept = []
        for access in self._accesses:
            other, tick, first, last, wrote, where = access
            if (writes or wrote) and first < end and start < last and clock.get(other, 0) < tick:
                kinds = ("write" if each else "read" for each in (writes, wrote))
                LEDGER.race(f"{self.what}: a {next(kinds)} beside the {next(kinds)} of {where}")
            if other is not stream or first < start or end < last or wrote > writes:
                kept.append(access)
        if stream is not None:
            kept.append((stream, stream.ticks, start, end, writes, line()))
        self._accesses = kept

    def let_go(self, clock: Clock, what: str, spared: set[Stream]) -> None:
        """Report work on streams that `clock` does not know of, when this is given to others."""
        for stream, tick, _, _, wrote, where in self._accesses:
            if stream not in spared and clock.get(stream, 0) < tick:
                kind = "write" if wrote else "read"
                LEDGER.race(f"{self.what}: {what} beside the {kind} of {where}")
