"""The loop over chunks: denoise, hand out, remember.

A generator over finished chunks. Knows neither host nor noise source nor storage: what denoises and
what makes noise are passed in. arXiv 2603.21366, algorithm 1, with the few-step sampler of
Self Forcing (arXiv 2506.08009).
"""

from collections.abc import Callable, Generator, Iterable
from typing import Protocol

from torch import Tensor

from .passes import Chunk, Pass, Schedule

Denoise = Callable[[Pass, Tensor, Tensor], Tensor]
OnStep = Callable[[Pass, Tensor, Tensor], None]


class Source(Protocol):
    """Where a rollout's latents come from and in which form they are kept."""

    def noise(self, chunk: Chunk, draw: int) -> Tensor:
        """Draw 0: the chunk at the first sigma. Draw `i`: standard normal noise after step `i`."""

    def kept(self, chunk: Chunk) -> Tensor:
        """Kept latents of a chunk that is given or was handed out."""

    def keep(self, x0: Tensor) -> Tensor:
        """The latents that the video keeps, from the last prediction."""


def rollout(
    chunks: Iterable[Chunk],
    *,
    schedule: Schedule,
    source: Source,
    denoise: Denoise,
    remember: Callable[[Pass, Tensor], None],
    on_step: OnStep,
) -> Generator[tuple[Chunk, Tensor], None, None]:
    """Yield each chunk with its kept latents `[B, C, length_frames, H, W]`, then remember those.

    A chunk is handed out before its clean pass, so that it is safe whatever happens next; and the
    clean pass sees what was kept, so that memory can be made again from kept latents bit for bit.
    Without clean passes a chunk that is not given is remembered while it is denoised.

    Args:
        denoise: `(pass, x, sigma)` to the predicted clean latents.
        remember: `(pass, kept latents)`, a pass that predicts nothing.
        on_step: called with `(pass, x, x0)` after each step.
    """
    for chunk in chunks:
        if chunk.given:
            kept = source.kept(chunk)
        else:
            kept = source.keep(_denoised(chunk, schedule, source, denoise, on_step))
        yield chunk, kept
        pass_ = schedule.remembered(chunk)
        if pass_.clean:
            remember(pass_, kept)


def _denoised(
    chunk: Chunk,
    schedule: Schedule,
    source: Source,
    denoise: Denoise,
    on_step: OnStep,
) -> Tensor:
    remembered = schedule.remembered(chunk)
    x = source.noise(chunk, 0)
    for step, ((sigma, level), (sigma_next, level_next)) in enumerate(schedule.levels(chunk)):
        pass_ = Pass(chunk=chunk, step=step, sigma=level)
        if step == remembered.step:
            pass_ = remembered
        x0 = denoise(pass_, x, sigma)
        on_step(pass_, x, x0)
        if level_next == 0:
            x = x0
        else:
            x = (1.0 - sigma_next) * x0 + sigma_next * source.noise(chunk, step + 1)
    return x
