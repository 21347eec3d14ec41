"""Which layers of which stream took part in each pass, and what must not be missing.

What is remembered must come from every pass that a chunk is made of, so a node that answers for the
model, or for some of its layers, spoils all later chunks without a word. Counting costs an integer
a stream. Knows streams and passes; neither tensors nor the host.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ...passes import Pass


class Stream(NamedTuple):
    """One entry of a conditioning, whose samples share a memory: "positive", 0 is the prompt."""

    conditioning: str
    entry: int

    def __str__(self) -> str:
        return self.conditioning + (f" (part {self.entry + 1})" if self.entry else "")


class Ledger:
    """Counts the passes of one run.

    Args:
        suspects: names of what other nodes have put in the way, asked for only when something is
            missing; the argument is the layer, None for the whole model.
    """

    def __init__(self, suspects: Callable[[int | None], list[str]]) -> None:
        self._suspects = suspects
        self._layers: dict[Stream, int] = {}  # bits of the layers that a stream has
        self._now: dict[Stream, int] = {}
        self._pass: Pass | None = None

    @property
    def present(self) -> set[Stream]:
        """Streams that have taken part in the pass that is open."""
        return set(self._now)

    def open(self, pass_: Pass) -> None:
        """Begin to count for a pass; one that is still open was given up."""
        self._pass, self._now = pass_, {}

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let other passes be counted while one is open, which goes on afterwards."""
        before = self._pass, self._now
        try:
            yield
        finally:
            self._pass, self._now = before

    def note(self, stream: Stream, layer: int) -> None:
        """A layer of a stream takes part.

        Raises:
            RuntimeError: for the second time in a pass that is remembered.
        """
        assert self._pass is not None, "a layer takes part in an open pass only"
        bit = 1 << layer
        before = self._now.get(stream, 0)
        if self._pass.remembered and before & bit:
            raise RuntimeError(
                f"Layer {layer} of the {stream} conditioning is evaluated twice while "
                f"{_where(self._pass)}: remove the node that evaluates it a second time"
                f"{self._named(None)}."
            )
        self._now[stream] = before | bit

    def close(self, expected: set[Stream] | None = None) -> None:
        """End the pass.

        Args:
            expected: streams that must have taken part; None: any one of them.

        Raises:
            RuntimeError: the model, a stream or a layer of one was left out.
        """
        assert self._pass is not None, "no pass was opened"
        if not self._now or (expected and expected - self._now.keys()):
            left_out = ", ".join(map(str, sorted((expected or set()) - self._now.keys())))
            what = f"The {left_out} conditioning" if left_out else "The model"
            raise RuntimeError(
                f"{what} was left out while {_where(self._pass)}, but what a video remembers must "
                f"come from every step: remove the node that skips steps{self._named(None)}."
            )
        for stream, layers in self._now.items():
            odd = layers ^ self._layers.setdefault(stream, layers)
            if odd:
                layer = (odd & -odd).bit_length() - 1
                raise RuntimeError(
                    f"Layer {layer} of the {stream} conditioning takes part in some steps only; "
                    f"{self._side(layers, layer)} while {_where(self._pass)}. What a video "
                    "remembers must come from the same layers in every step: remove the node that "
                    f"skips them{self._named(layer)}."
                )

    def _side(self, layers: int, layer: int) -> str:
        return "it does" if layers >> layer & 1 else "it is missing"

    def _named(self, layer: int | None) -> str:
        names = self._suspects(layer)
        return f" (in the way of the model: {', '.join(names)})" if names else ""


def _where(pass_: Pass) -> str:
    chunk = f"chunk {pass_.chunk.film_index + 1}"
    return (
        f"{chunk} is being remembered" if pass_.clean else f"step {pass_.step + 1} of {chunk} ran"
    )
