"""Noise that belongs to a frame, not to a length.

A 30 s video is the beginning of the 60 s video of the same seed, on any device: each chunk, sample
and draw has its own generator on the CPU. The formula is part of the node contract.
"""

import numpy
import torch
from torch import Tensor


def chunk_noise(
    seed: int,
    *,
    samples: int,
    first_sample: int = 0,
    first_frame: int,
    draw: int,
    shape: tuple[int, int, int, int],
) -> Tensor:
    """Standard normal noise `[samples, C, frames, H, W]`, float32 on the CPU.

    Args:
        first_sample: number of the first one in the batch that it was begun in.
        first_frame: the chunk's first latent frame in the whole video.
        draw: 0 for the initial noise, `i` for the re-noising after step `i` (from 1).
        shape: `[C, frames, H, W]` of one sample.
    """
    return torch.stack(
        [
            _sample_noise((seed, sample, first_frame, draw), shape)
            for sample in range(first_sample, first_sample + samples)
        ]
    )


def _sample_noise(key: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    state = numpy.random.SeedSequence(key).generate_state(1, numpy.uint64)[0]
    generator = torch.Generator().manual_seed(int(state >> numpy.uint64(1)))
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
