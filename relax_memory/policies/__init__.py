"""Memory policies by name. A policy is a frozen dataclass: settings in, `Roles` out, no tensors."""

from typing import Protocol

from ..roles import Roles
from ..rope import RopeMode
from .relaxed import RelaxedMemory
from .window import WindowMemory


class Policy(Protocol):
    """What the plan, the scoring and the rollout ask of a policy."""

    rope: RopeMode
    redundancy_weight: float

    @property
    def reach_frames(self) -> int | None:
        """How many frames before a chunk the oldest readable frame lies, sinks aside; None: all."""

    def roles(self, past_frames: int, chunk_frames: int) -> Roles:
        """Roles for a chunk of `chunk_frames` that follows `past_frames` committed frames."""


POLICIES: dict[str, type[Policy]] = {
    "relaxed": RelaxedMemory,
    "window": WindowMemory,
}
