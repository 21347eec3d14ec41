"""Prototypes of frames and the choice of history by relaxation score.

arXiv 2603.21366, section 3.3. Knows no storage and no policy.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize


def frame_means(keys: Tensor, frames: int) -> Tensor:
    """Mean un-rotated key of each frame, over its tokens and over heads.

    Args:
        keys: `[B, frames * tokens, heads, head_dim]`, un-rotated, of layer 0.
        frames: how many frames `keys` holds.

    Returns:
        `[B, frames, head_dim]`, float32.
    """
    per_frame = keys.unflatten(1, (frames, -1))
    return per_frame.mean(dim=(2, 3), dtype=torch.float32)


def prototype(means: Tensor) -> Tensor:
    """Direction of a set of frames: `[B, frames, D]` to `[B, D]`; zeros for an empty set."""
    if means.shape[1] == 0:
        return means.new_zeros(means.shape[0], means.shape[2])
    return normalize(means.mean(dim=1), dim=-1)


def relaxation_scores(
    candidates: Tensor, sink: Tensor, tail: Tensor, *, redundancy_weight: float
) -> Tensor:
    """How well each candidate agrees with the sink and how little it repeats the tail.

    Args:
        candidates, sink, tail: frame means `[B, frames, head_dim]`, float32.
        redundancy_weight: the paper's lambda.

    Returns:
        `[B, candidates]`: `<p, p_sink> - lambda <p, p_tail>`.
    """
    directions = normalize(candidates, dim=-1)
    target = prototype(sink) - redundancy_weight * prototype(tail)
    return (directions * target.unsqueeze(1)).sum(dim=-1)  # a matrix product may round by batch


def choose_history(
    candidates: tuple[int, ...], scores: tuple[float, ...], history_frames: int
) -> tuple[int, ...]:
    """The `history_frames` candidates of highest score, in temporal order; the older wins a tie."""
    ranked = sorted(
        range(len(candidates)),
        key=lambda i: -math.inf if math.isnan(scores[i]) else scores[i],
        reverse=True,
    )
    return tuple(candidates[i] for i in sorted(ranked[:history_frames]))
