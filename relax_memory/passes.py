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
    """

    index: int
    first_frame: int
    length_frames: int
    given: bool
    roles: Roles
    scene: int = 0

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(range(self.first_frame, self.first_frame + self.length_frames))


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass of a chunk through the model.

    Denoising passes count their `step` from 0; the clean pass, at `sigma` 0 over the finished
    chunk, is the one that is remembered and comes as the step after the last.
    """

    chunk: Chunk
    step: int
    sigma: float
    clean: bool
