"""What happened on the cards: launches, bytes, waits of the host and races, each with its line."""

import sys
from collections import Counter
from dataclasses import dataclass, field

from conftest import HOST, ROOT

PACK = tuple(f"{ROOT}/{folder}/" for folder in ("relax_memory", "nodes", "demo"))


def line() -> str:
    """The line of the pack that is at work, and before it the innermost one of the host."""
    host, frame = "", sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACK):
            return f"{host}{name[len(str(ROOT)) + 1 :]}:{frame.f_lineno}"
        if not host and name.startswith(str(HOST)):
            host = f"{name[len(str(HOST)) + 1 :]}:{frame.f_lineno} < "
        frame = frame.f_back
    return host.removesuffix(" < ") or "no line of pack or host"


@dataclass
class Ledger:
    """Since the last `clear`: work on the stream that computes, by operation and, if `by_line`, by
    line; copies `(from, to, "computing" or "beside")`; waits and races in words."""

    launches: Counter = field(default_factory=Counter)
    bytes: Counter = field(default_factory=Counter)
    copied: Counter = field(default_factory=Counter)
    waits: list[str] = field(default_factory=list)
    races: list[str] = field(default_factory=list)
    by_line: bool = False

    def clear(self) -> None:
        for entries in (self.launches, self.bytes, self.copied, self.waits, self.races):
            entries.clear()

    def snapshot(self) -> dict[str, int]:
        """Totals so far."""
        return {
            "launches": self.launches.total(),
            "bytes": self.bytes.total(),
            "waits": len(self.waits),
            "copied": sum(n for kind, n in self.copied.items() if kind[2] == "beside"),
        }

    def launch(self, name: str, size: int) -> None:
        key = f"{name} at {line()}" if self.by_line else name
        self.launches[key] += 1
        self.bytes[key] += size

    def copy(self, kind: tuple[str, str, str], size: int) -> None:
        self.copied[kind] += size

    def wait(self, what: str) -> None:
        self.waits.append(f"{what} at {line()}")

    def race(self, what: str) -> None:
        self.races.append(f"{what} at {line()}")


LEDGER = Ledger()
