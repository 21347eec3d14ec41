"""What one call of the model is for: which chunk, which step, and whether it is remembered.

Made by the rollout and handed on as it is, through the session to memory and policy. Plain numbers;
knows no tensors.
"""

from dataclasses import dataclass

from .roles import Roles


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
