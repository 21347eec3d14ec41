"""Relaxed memory: sink, selected history, tail (arXiv 2603.21366, sections 3.2 to 3.4)."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ..roles import Roles
from ..scoring import relaxation_scores
from .base import Policy, Saving


@dataclass(frozen=True, kw_only=True)
class RelaxedMemory(Policy):
    """Settings of the method; the defaults are the paper's. All sizes are latent frames.

    Raises:
        ValueError: a negative size, more history than candidates, an unknown `rope`, or a
            reservoir too small to hold the memory.
    """

    sink_frames: int = 2
    history_frames: int = 1
    tail_frames: int = 1
    history_candidates: int = 4
    redundancy_weight: float = 2.0
    reservoir_frames: int = 120

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("sink_frames", "history_frames", "tail_frames", "history_candidates")
        for name in sizes:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: use 0 or more.")
        if self.history_frames > self.history_candidates:
            raise ValueError(
                f"history_frames is {self.history_frames} but history_candidates is "
                f"{self.history_candidates}: the history is chosen among the candidates, so raise "
                "history_candidates or lower history_frames."
            )
        if not math.isfinite(self.redundancy_weight):
            raise ValueError(f"redundancy_weight is {self.redundancy_weight}: use a finite number.")
        self._check_reservoir(chunk_frames=1)

    @property
    def memory_frames(self) -> int:
        """Past frames read by every chunk of the steady state."""
        return self.sink_frames + self.history_frames + self.tail_frames

    @property
    def reach_frames(self) -> int:
        return self.reservoir_frames

    def roles(self, past_frames: int, chunk_frames: int) -> Roles:
        """Roles after `past_frames`; the reservoir keeps `reservoir_frames - chunk_frames` of them.

        Raises:
            ValueError: the reservoir cannot hold the memory and a chunk of `chunk_frames`.
        """
        self._check_reservoir(chunk_frames)
        sink_frames, tail_frames = self.sink_frames, self.tail_frames
        evicted = max(0, past_frames + chunk_frames - self.reservoir_frames)
        cached = [*range(min(sink_frames, past_frames))]
        cached += range(sink_frames + evicted, past_frames)
        tail_from = max(len(cached) - tail_frames, min(sink_frames, len(cached)))
        sink, middle, tail = cached[:sink_frames], cached[sink_frames:tail_from], cached[tail_from:]
        if len(cached) <= sink_frames + 1 + tail_frames:
            candidates, history_frames = middle, len(middle)
        else:
            candidates = [middle[i] for i in _candidates(len(middle), self.history_candidates)]
            history_frames = min(self.history_frames, len(candidates))
        return Roles(
            sink=tuple(sink),
            candidates=tuple(candidates) if history_frames else (),
            tail=tuple(tail),
            history_frames=history_frames,
        )

    def scores(self, candidates: Tensor, sink: Tensor, tail: Tensor) -> Tensor:
        return relaxation_scores(candidates, sink, tail, redundancy_weight=self.redundancy_weight)

    def fewest_reservoir_frames(self, chunk_frames: int) -> int:
        return self.memory_frames + chunk_frames

    def with_reservoir(self, frames: int) -> Policy:
        return replace(self, reservoir_frames=frames)

    def savings(self) -> tuple[Saving, ...]:
        return (Saving("halve reservoir_frames", 0.5),)

    def remarks(self, total_frames: int, *, chooses: bool, frame_seconds: float) -> tuple[str, ...]:
        remarks = []
        if self.reservoir_frames > total_frames:
            remarks.append(
                f"reservoir_frames {self.reservoir_frames} "
                f"({self.reservoir_frames * frame_seconds:g} s) is longer than the video, so "
                "history comes from the newer half of all that was made."
            )
        if self.history_frames and not chooses:
            remarks.append("the video is too short for a choice of history.")
        return tuple(remarks)

    def _check_reservoir(self, chunk_frames: int) -> None:
        needed = self.fewest_reservoir_frames(chunk_frames)
        if self.reservoir_frames < needed:
            raise ValueError(
                f"reservoir_frames is {self.reservoir_frames}, but {self.sink_frames} sink, "
                f"{self.history_frames} history and {self.tail_frames} tail frames with a chunk of "
                f"{chunk_frames} need {needed}: raise reservoir_frames or remember fewer frames."
            )


@lru_cache(maxsize=1024)
def _candidates(middle_frames: int, count: int) -> tuple[int, ...]:
    """Indices into the middle that are compared: spread over its newer half, the newest left out.

    Section 2 of the design: float32 `linspace`, truncated, without repeats and without the last.
    """
    first = middle_frames // 2
    count = min(count, middle_frames - first)
    if count < 2:
        return (first,)[:count]
    points = torch.linspace(first, middle_frames - 1, count + 1, dtype=torch.float32, device="cpu")
    return tuple(points.long().unique().tolist()[:-1])
