"""What the demo's transformer is trained on is what it meets in a rollout."""

import random

import tiny
import torch
from comfy.latent_formats import Wan21
from comfy.ldm.wan.model import WanModel
from comfy.ops import manual_cast

from demo.causal import CausalClip
from demo.clips import beginning, scenes
from demo.train_model import CHUNK_FRAMES, FRAMES, SIZE, coupled
from relax_memory.noise import chunk_noise

SEED = 5


def clip_of(network):
    longest = FRAMES - CHUNK_FRAMES
    return CausalClip(network, chunk_frames=CHUNK_FRAMES, size=SIZE, longest_memory=longest)


def network():
    shape = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 3}
    model = WanModel(operations=manual_cast, dtype=torch.float32, **shape)
    model.load_state_dict(tiny.state_dict())
    return model


@torch.no_grad()
def test_training_computes_what_a_rollout_computes():
    latent, trace = tiny.node(
        "RelaxForcingSampler",
        model=tiny.remembering(),
        positive=tiny.conditioning(0),
        width=8 * SIZE[1],
        height=8 * SIZE[0],
        length=4 * (FRAMES - 1) + 1,
        seed=SEED,
        steps=1,
        cfg=1.0,
        frames_per_chunk=CHUNK_FRAMES,
        batch_size=1,
        autosave=False,
    )
    assert any(chunk.history[0] for chunk in trace.chunks)
    memory = [(*chunk.sink, *chunk.history[0], *chunk.tail) for chunk in trace.chunks]
    firsts = range(0, FRAMES, CHUNK_FRAMES)
    shape = (16, CHUNK_FRAMES, *SIZE)
    draws = [chunk_noise(SEED, samples=1, first_frame=f, draw=0, shape=shape) for f in firsts]
    noise = torch.cat(draws, dim=2)
    clean = Wan21().process_in(latent["samples"])
    flow = clip_of(network())(
        clean, noise, torch.ones(1, len(memory)), tiny.conditioning(0)[0][0], memory
    )
    assert (noise - flow - clean).abs().max() < 1e-4 * clean.abs().max()


def test_coupled_noise_tells_the_beginning_and_stays_what_it_was():
    rng = random.Random(0)
    beginnings = torch.stack([beginning(*clip, rng) for clip in scenes(0)])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(beginnings), 16, 2 * CHUNK_FRAMES, *SIZE, generator=generator)
    sigmas = torch.ones(len(beginnings), 2)
    sigmas[::2, 0] = 0.5
    made = coupled(noise, sigmas, beginnings)
    told = made[1::2, :, :CHUNK_FRAMES].mean((2, 3, 4)) * (CHUNK_FRAMES * SIZE[0] * SIZE[1]) ** 0.5
    there = ~beginnings[1::2].isnan()
    assert torch.allclose(told[there], beginnings[1::2][there], atol=1e-4)
    assert torch.equal(made[::2], noise[::2])
    assert torch.equal(made[:, :, CHUNK_FRAMES:], noise[:, :, CHUNK_FRAMES:])
    assert torch.equal(made[beginnings.isnan()], noise[beginnings.isnan()])  # things not there
    assert told.mean(0).abs().max() < 0.3  # of 125: three deviations
    assert (told.std(0) - 1).abs().max() < 0.25
    assert (torch.corrcoef(told.T) - torch.eye(16)).abs().max() < 0.4
