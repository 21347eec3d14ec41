"""The loop over chunks: denoise, hand out, remember.

A generator over finished chunks. Knows neither host nor noise source nor storage: what denoises and
what makes noise are passed in. arXiv 2603.21366, algorithm 1, with the few-step sampler of
Self Forcing (arXiv 2506.08009).
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from .plan import Chunk


class Source(Protocol):
    """Where a rollout's latents come from and in which form they are kept."""

    def noise(self, chunk: Chunk, draw: int) -> Tensor:
        """Draw 0: the chunk at the first sigma. Draw `i`: standard normal noise after step `i`."""

    def given(self, chunk: Chunk) -> Tensor:
        """Kept latents of a given chunk."""

    def keep(self, x0: Tensor) -> Tensor:
        """The latents that the video keeps, from the last prediction."""


def rollout(
    chunks: Iterable[Chunk],
    *,
    sigmas: Tensor,
    source: Source,
    denoise: Callable[[Chunk, Tensor, Tensor], Tensor],
    remember: Callable[[Chunk, Tensor], None],
    on_step: Callable[[Chunk, int, Tensor, Tensor], None],
) -> Iterator[tuple[Chunk, Tensor]]:
    """Yield each chunk with its kept latents `[B, C, length_frames, H, W]`, then remember those.

    A chunk is handed out before its clean pass, so that it is safe whatever happens next; and the
    clean pass sees what was kept, so that memory can be made again from kept latents bit for bit.

    Args:
        sigmas: noise levels, descending and ending in 0, `[steps + 1]`.
        denoise: `(chunk, x, sigma)` to the predicted clean latents.
        remember: the clean pass over kept latents.
        on_step: called with `(chunk, step, x, x0)` after each step.
    """
    levels = list(pairwise(zip(sigmas, sigmas.tolist(), strict=True)))
    for chunk in chunks:
        if chunk.given:
            kept = source.given(chunk)
        else:
            x = source.noise(chunk, 0)
            for step, ((sigma, _), (sigma_next, level_next)) in enumerate(levels):
                x0 = denoise(chunk, x, sigma)
                on_step(chunk, step, x, x0)
                if level_next == 0:
                    x = x0
                else:
                    x = (1.0 - sigma_next) * x0 + sigma_next * source.noise(chunk, step + 1)
            kept = source.keep(x)
        yield chunk, kept
        remember(chunk, kept)
