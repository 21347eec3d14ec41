"""Bytes a rollout will hold, computed from its plan before anything is allocated."""

from dataclasses import dataclass

from .plan import Plan


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What one latent frame costs in this model: `tokens` per frame, `width` = heads x head_dim."""

    layers: int
    width: int
    tokens: int
    element_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Keys and values of one latent frame in all layers."""
        return 2 * self.layers * self.width * self.tokens * self.element_bytes


def bank_bytes(plan: Plan, shape: ModelShape, *, rows: int) -> int:
    """Bytes of stored frames for `rows` rows (samples x conditionings)."""
    return rows * plan.peak_frames(ahead_chunks=2) * shape.frame_bytes


def buffer_bytes(plan: Plan, shape: ModelShape, *, rows: int) -> int:
    """Bytes of the buffers that attention reads, for `rows` rows."""
    return rows * plan.buffer_frames * shape.frame_bytes
