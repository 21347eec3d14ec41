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
