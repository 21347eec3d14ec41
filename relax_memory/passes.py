"""What one call of the model is for: which chunk, which step, and whether it is remembered.

A `Schedule` says which passes a chunk makes. The rollout makes each `Pass` and hands it on as it
is, through the session to memory and policy. Knows no model and no sampler.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from .roles import Roles

Level = tuple[Tensor, float]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Latent frames that are denoised together, or `given` and only remembered.

    `scene` numbers the memory that the chunk reads and writes; a video without cuts is scene 0.
    `index` and all frames count from the beginning of the scene. `chunks_elsewhere` and
    `frames_elsewhere` of other scenes come before the chunk in the film.
    """

    index: int
    first_frame: int
    length_frames: int
    given: bool
    roles: Roles
    scene: int = 0
    chunks_elsewhere: int = 0
    frames_elsewhere: int = 0

    @property
    def film_index(self) -> int:
        """Its number in the film."""
        return self.index + self.chunks_elsewhere

    @property
    def film_frame(self) -> int:
        """Its first frame in the film."""
        return self.first_frame + self.frames_elsewhere

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(range(self.first_frame, self.first_frame + self.length_frames))

    @property
    def film_frames(self) -> tuple[int, ...]:
        """Its frames in the film."""
        return tuple(range(self.film_frame, self.film_frame + self.length_frames))

    def touches(self, first_frame: int, end_frame: int) -> bool:
        """Whether it has frames in this part of the film, whose end is not included."""
        return first_frame < self.film_frame + self.length_frames and self.film_frame < end_frame


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass of a chunk through the model.

    Denoising passes count their `step` from 0. Of each chunk one pass is `remembered`: the clean
    pass, at `sigma` 0 over the finished chunk, which comes as the step after the last, or, where
    there is none, the last step.
    """

    chunk: Chunk
    step: int
    sigma: float
    remembered: bool = False

    @property
    def clean(self) -> bool:
        """Whether the chunk is finished, so that nothing is predicted."""
        return self.sigma == 0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Noise levels `[steps + 1]`, descending and ending in 0; `first` for a chunk without a past.

    Some checkpoints of few steps need more where there is no memory to lean on. A chunk has no past
    at the beginning of the video; after a prefix there is no such chunk.
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
