"""Bytes a rollout will hold, computed from its plan before anything is allocated."""

from dataclasses import dataclass

from ..plan import Plan
from .storage import Storage


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What one latent frame is in a model: tokens, and elements of its keys."""

    layers: int
    heads: int
    head_dim: int
    tokens: int
    element_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Keys and values of one latent frame in all layers, in the model's precision."""
        return self._vectors * self.head_dim * self.element_bytes

    @property
    def frame_bytes_fp8(self) -> int:
        """The same in fp8, with a float32 scale per token and head."""
        return self._vectors * (self.head_dim + 4)

    @property
    def _vectors(self) -> int:
        return 2 * self.layers * self.tokens * self.heads


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Bytes of keys and values: `bank_bytes` in storage, `buffer_bytes` where attention reads.

    Where storage is host memory, `crossing_bytes` of the device are on their way: what one layer
    sends there, and what the next has from there.
    """

    bank_bytes: int
    buffer_bytes: int
    crossing_bytes: int = 0

    @property
    def bytes(self) -> int:
        return self.bank_bytes + self.buffer_bytes


def costs(plan: Plan, shape: ModelShape, storage: Storage, *, rows: int) -> Costs:
    """What `rows` rows (samples x conditionings) hold at the peak of a plan."""
    small = shape.frame_bytes_fp8 if storage.dtype == "fp8" else shape.frame_bytes
    certain_frames = plan.peak_frames(ahead_chunks=2, certain=True)
    other_frames = plan.peak_frames(ahead_chunks=2, certain=False)
    crossing_frames = plan.chunk_frames + plan.fetched_frames
    return Costs(
        bank_bytes=rows * (certain_frames * shape.frame_bytes + other_frames * small),
        buffer_bytes=rows * plan.buffer_frames * shape.frame_bytes,
        crossing_bytes=rows * crossing_frames * shape.frame_bytes // shape.layers,
    )
