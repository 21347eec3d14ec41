"""Temporal positions of memory, relative to the chunk that reads it.

RoPE scores depend on differences only, so the current chunk always stands at times 0 to n-1 and
memory at negative times: no position grows with the length of the video. arXiv 2603.21366,
section 3.5 (hybrid RoPE); `absolute` is the paper's ablation.
"""

from typing import Literal

RopeMode = Literal["hybrid", "absolute"]
ROPE_MODES: tuple[RopeMode, ...] = ("hybrid", "absolute")


def memory_times(frames: tuple[int, ...], first_frame: int, mode: RopeMode) -> tuple[int, ...]:
    """Time of each attended frame when the chunk that starts at `first_frame` stands at 0.

    Args:
        frames: attended past frames in attention order (sink, history, tail).
        first_frame: first latent frame of the chunk.
        mode: "hybrid" puts all memory immediately before the chunk; "absolute" leaves every frame
            at its true distance.
    """
    if mode == "absolute":
        return tuple(frame - first_frame for frame in frames)
    return tuple(range(-len(frames), 0))
