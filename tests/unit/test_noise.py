"""Noise is the node contract's, whatever else is generated around it."""

import numpy
import pytest
import torch

from relax_memory.noise import chunk_noise

SHAPE = (16, 3, 4, 6)


def contract_noise(seed, sample, first_frame, draw):
    """Section 5 of the design."""
    s = int(
        numpy.random.SeedSequence([seed, sample, first_frame, draw]).generate_state(
            1, numpy.uint64
        )[0]
        >> 1
    )
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(s), dtype=torch.float32)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize(("first_frame", "draw"), [(0, 0), (3, 1), (237, 4), (10**6, 0)])
def test_noise_is_the_contract_s(seed, first_frame, draw):
    noise = chunk_noise(seed, samples=2, first_frame=first_frame, draw=draw, shape=SHAPE)
    assert noise.dtype == torch.float32
    assert noise.device.type == "cpu"
    for sample in range(2):
        assert torch.equal(noise[sample], contract_noise(seed, sample, first_frame, draw))


def test_a_sample_has_the_same_noise_alone_and_in_a_batch():
    alone, batch = (
        chunk_noise(7, samples=samples, first_frame=9, draw=0, shape=SHAPE) for samples in (1, 3)
    )
    assert torch.equal(alone[0], batch[0])


def test_every_seed_sample_chunk_and_draw_has_its_own_noise():
    draws = [
        sample
        for seed in (0, 1)
        for first_frame in (0, 1, 3)
        for draw in (0, 1)
        for sample in chunk_noise(seed, samples=2, first_frame=first_frame, draw=draw, shape=SHAPE)
    ]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == len(draws)


def test_noise_neither_uses_nor_moves_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    noise = chunk_noise(7, samples=1, first_frame=0, draw=0, shape=SHAPE)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(chunk_noise(7, samples=1, first_frame=0, draw=0, shape=SHAPE), noise)


def test_a_changed_default_dtype_changes_nothing():
    torch.set_default_dtype(torch.float64)
    try:
        noise = chunk_noise(7, samples=1, first_frame=0, draw=0, shape=SHAPE)
    finally:
        torch.set_default_dtype(torch.float32)
    assert noise.dtype == torch.float32
    assert torch.equal(noise[0], contract_noise(7, 0, 0, 0))


def test_noise_is_standard_normal():
    noise = chunk_noise(3, samples=4, first_frame=0, draw=0, shape=(16, 3, 32, 32))
    assert noise.mean().abs() < 0.01
    assert (noise.std() - 1).abs() < 0.01


def test_a_sample_has_the_same_noise_without_those_before_it():
    settings = {"first_frame": 3, "draw": 1, "shape": SHAPE}
    batch = chunk_noise(7, samples=4, **settings)
    assert torch.equal(chunk_noise(7, samples=2, first_sample=1, **settings), batch[1:3])
