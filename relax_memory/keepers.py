"""Finished chunks and who keeps them: the video itself, its growing file, autosave, a live view.

Keepers are asked in one order, and each is done before the next: what is saved can be seen. A saved
rollout is replayed by giving its chunks to the same keepers.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .passes import Chunk
from .trace import ChunkTrace


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A chunk that is done: kept latents `[B, C, length_frames, H, W]`, and what its rows read.

    `noisy` is what its last step was given, where that step is remembered.
    """

    chunk: Chunk
    latents: Tensor
    trace: ChunkTrace
    rows: tuple[str, ...]
    noisy: Tensor | None = None


class Keeper(Protocol):
    """Something that a finished chunk is given to."""

    def keep(self, finished: Finished) -> None:
        """Take the next chunk, in order; the latents must not be changed."""
