"""What a memory policy answers. A policy is a frozen dataclass of settings that holds no tensors.

Four questions: which frames a chunk may read (`roles`), which of these roles one pass reads in one
layer (`reads`), where the frames stand in time (`times`), and which candidates become history
(`scores`). All but the first have an answer here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from ..passes import Pass
from ..roles import ROLES, Role, Roles
from ..scoring import relaxation_scores

RopeMode = Literal["hybrid", "absolute"]
ROPE_MODES: tuple[RopeMode, ...] = ("hybrid", "absolute")


class Saving(NamedTuple):
    """A change of settings in words, and the share of stored memory that it saves at most."""

    words: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """A rule of what is remembered.

    `stored_by_choice`: whether its node lets people choose where frames lie and how precisely.

    Raises:
        ValueError: an unknown `rope`.
    """

    rope: RopeMode = "hybrid"
    stored_by_choice: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.rope not in ROPE_MODES:
            raise ValueError(f'rope is "{self.rope}": use "hybrid" or "absolute".')

    @property
    @abstractmethod
    def reach_frames(self) -> int | None:
        """How many frames before a chunk the oldest readable frame lies, sinks aside; None: all."""

    @abstractmethod
    def roles(self, past_frames: int, chunk_frames: int) -> Roles:
        """Roles for a chunk of `chunk_frames` that follows `past_frames` committed frames.

        Raises:
            ValueError: the settings do not allow such a chunk.
        """

    def reads(self, pass_: Pass, layer: int) -> tuple[Role, ...]:
        """The roles that a pass reads in a layer, in the order of `ROLES`.

        What is left out stays in memory, and does not move what is read.
        """
        return ROLES

    def times(self, frames: tuple[int, ...], first_frame: int) -> tuple[int, ...]:
        """Time of each attended frame when the chunk that starts at `first_frame` stands at 0.

        RoPE scores depend on differences only. So the running chunk is always at times 0 to n-1 and
        memory at negative ones, and no position grows with the video: "hybrid" (section 3.5 of the
        paper) puts all of it right before the chunk, whatever its age; "absolute", the paper's
        ablation, leaves every frame at its true distance.
        """
        if self.rope == "absolute":
            return tuple(frame - first_frame for frame in frames)
        return tuple(range(-len(frames), 0))

    def scores(self, candidates: Tensor, sink: Tensor, tail: Tensor) -> Tensor:
        """`[B, candidates]`, the highest become history; by default the likeness with the sink.

        Args:
            candidates, sink, tail: frame means `[B, frames, head_dim]`, see `scoring`.
        """
        return relaxation_scores(candidates, sink, tail, redundancy_weight=0.0)

    def fewest_reservoir_frames(self, chunk_frames: int) -> int | None:
        """The smallest reservoir that serves such chunks; None where there is none to choose."""
        return None

    def with_reservoir(self, frames: int) -> Policy:
        """This rule with a reservoir of so many frames, where there is one to choose."""
        return self

    def savings(self) -> tuple[Saving, ...]:
        """Changes of these settings that need less memory."""
        return ()

    def remarks(self, total_frames: int, *, chooses: bool, frame_seconds: float) -> tuple[str, ...]:
        """What to mind about these settings in a video of `total_frames`.

        Args:
            chooses: whether any of its chunks has a choice of history.
            frame_seconds: how long a latent frame lasts.
        """
        return ()
