"""Runs programs of one process in turns, one chunk each: `turns` does it with processes.

They share the GPU's memory and stream, so a chunk's time is that between two events in it.
"""

import threading
from collections.abc import Callable

import common
from common import elapsed, moment


class TurnClock(common.ChunkClock):
    """Seconds of each chunk of a program that waits after every one until it is its turn again.

    Args:
        now: a moment, as `common.elapsed` takes it.
    """

    def __init__(self, now: Callable = moment) -> None:
        super().__init__()
        self._now = now
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._spans: list[tuple] = []
        self.ended = False
        self.error: BaseException | None = None

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % self._steps == 0:
            self.pass_on()

    def pass_on(self) -> None:
        """End a chunk, and let the others make one each."""
        self._spans.append((self._start, self._now()))
        self._done.release()
        self._begin()

    @property
    def seconds(self) -> list[float]:
        common.synchronize()
        return [elapsed(*span) for span in self._spans]

    def turn(self) -> None:
        """Let the program make one chunk."""
        self._go.release()
        self._done.acquire()

    def run(self, program: Callable[[], None]) -> None:
        """To be called in a thread of its own."""
        self._begin()
        try:
            program()
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self._done.release()

    def _begin(self) -> None:
        self._go.acquire()
        self._start = self._now()


def in_turns(programs: dict[TurnClock, Callable[[], None]]) -> None:
    """Run programs chunk by chunk in turns, so that a noisy machine cannot tilt a comparison.

    Each has a thread of its own, so that all allocate alike; on a GPU the last runs in the thread
    that calls, since torch finds CUDA graphs in that alone.

    Raises:
        Exception: what ended one of them; the others have been run to their ends.
    """
    runs = [(clock.run, program) for clock, program in programs.items()]
    here = runs.pop() if common.DEVICE.type == "cuda" else None
    for run, program in runs:
        threading.Thread(target=run, args=(program,), daemon=True).start()
    turns = threading.Thread(target=_take_turns, args=(tuple(programs),), daemon=True)
    turns.start()
    if here:
        run, program = here
        run(program)
    turns.join()
    for clock in programs:
        if clock.error:
            raise clock.error


def _take_turns(clocks: tuple[TurnClock, ...]) -> None:
    while waiting := [clock for clock in clocks if not clock.ended]:
        for clock in waiting:
            clock.turn()
