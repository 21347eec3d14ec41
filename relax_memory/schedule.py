"""The noise levels by which each chunk is denoised.

A chunk with nothing before it may have levels of its own: some few-step checkpoints need more steps
where there is no memory to lean on. It also says which pass is remembered. Knows no model and no
sampler.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from .passes import Chunk, Pass

Level = tuple[Tensor, float]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Noise levels `[steps + 1]`, descending and ending in 0; `first` for a chunk without a past.

    A chunk has no past at the beginning of the video; after a prefix there is no such chunk.
    Without a `clean_pass` the last step of a chunk is remembered; one that is given has no step.
    """

    sigmas: Tensor
    first: Tensor | None = None
    clean_pass: bool = True
    _levels: dict[int, list] = field(default_factory=dict, init=False, repr=False, compare=False)

    def of(self, chunk: Chunk) -> Tensor:
        """The levels of a chunk."""
        return self.sigmas if self.first is None or chunk.first_frame else self.first

    def steps(self, chunk: Chunk) -> int:
        """How often a chunk is denoised."""
        return len(self.of(chunk)) - 1

    def remembered(self, chunk: Chunk) -> Pass:
        """The pass whose keys and values later chunks read."""
        steps = self.steps(chunk)
        if self.clean_pass or chunk.given:
            return Pass(chunk=chunk, step=steps, sigma=0.0, remembered=True)
        (_, sigma), _ = self.levels(chunk)[-1]
        return Pass(chunk=chunk, step=steps - 1, sigma=sigma, remembered=True)

    def levels(self, chunk: Chunk) -> list[tuple[Level, Level]]:
        """Each step's level and the next one, as tensor and as number."""
        sigmas = self.of(chunk)
        if id(sigmas) not in self._levels:
            self._levels[id(sigmas)] = list(pairwise(zip(sigmas, sigmas.tolist(), strict=True)))
        return self._levels[id(sigmas)]
