"""What the demo's transformer is trained on is what it meets in a rollout."""

import random

import pytest
import tiny
import torch
from comfy.latent_formats import Wan21
from comfy.ldm.wan.model import WanModel
from comfy.ops import manual_cast
from scipy.stats import kstest
from torch.nn.functional import avg_pool2d, max_pool2d, one_hot

from lab.causal import CausalClip
from lab.clips import FRAMES, SHARDS, Clip, encoded, lacking, missing, scenes, still
from lab.cues import NUMBERS, Cues, beginning, coupled
from lab.train_model import CHUNK_FRAMES, PHASES, SCHEDULE, SIZE, phase_of
from lab.world import PARTS, draw, ground
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


@pytest.mark.parametrize("apart", [False, True])
def test_coupled_noise_tells_the_beginning_and_stays_what_it_was(apart):
    rng = random.Random(0)
    clips = [clip for shard in range(4) for clip in scenes(shard + apart * SHARDS)]
    cells, numbers = map(torch.stack, zip(*(beginning(*clip, rng) for clip in clips), strict=True))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(clips), 16, CHUNK_FRAMES, *SIZE, generator=generator)
    made = coupled(noise, cells, numbers, apart=apart)
    assert torch.equal(made[:, :, 1:], noise[:, :, 1:])
    means = avg_pool2d(made[:, :, 0], SIZE[0] // PARTS).unflatten(1, (2, 8)).flatten(3)
    there = cells >= 0
    assert there[:, 0].all() and 0.4 < there[:, 1].float().mean() < 0.6
    loudness = means[:, :, 0]
    if apart:
        first = one_hot(cells[:, 0], PARTS**2).float().unflatten(1, (1, PARTS, PARTS))
        near = max_pool2d(first, 3, stride=1, padding=1).flatten(1) > 0
        assert (loudness[there[:, 1], 1].argmax(-1) != cells[there[:, 1], 1]).any()
        loudness = torch.stack([loudness[:, 0], loudness[:, 1].masked_fill(near, -torch.inf)], 1)
    assert torch.equal(loudness.argmax(-1)[there], cells[there])
    told = means[torch.arange(len(clips))[:, None], torch.arange(2), 1:, cells][there]
    assert torch.allclose(2 * told, numbers[there], atol=1e-5)  # of four numbers: half as wide
    assert torch.equal(made[:, 8:][~there[:, 1]], noise[:, 8:][~there[:, 1]])
    assert kstest(made.flatten(), "norm").statistic < 0.002
    values = numbers[there]
    assert values.mean(0).abs().max() < 0.15
    assert (values.std(0) - 1).abs().max() < 0.15
    assert (torch.corrcoef(values.T) - torch.eye(NUMBERS)).abs().max() < 0.25
    assert torch.bincount(cells[there], minlength=PARTS**2).min() > len(values) / PARTS**2 / 2


def clip_with(things: int) -> Clip:
    """A clip of random latents, in which nothing stands still."""
    scene, moment = next(each for each in scenes(0) if len(each[0].things) == things)
    generator = torch.Generator().manual_seed(things)
    latents, without = torch.randn(2, 16, FRAMES, *SIZE, generator=generator)
    return Clip(latents=latents, scene=scene, moment=moment, without=without, missing=things - 1)


@pytest.mark.parametrize("absent", [False, True])
def test_a_forgotten_thing_is_gone_from_some_chunk_on_and_later_noise_tells_where_it_is(absent):
    clips = [clip_with(1), clip_with(2)] * 10
    chunks = FRAMES // CHUNK_FRAMES
    cues = Cues(clips, random.Random(0), chunks=chunks, chunk_frames=CHUNK_FRAMES)
    noise = torch.randn(len(clips), 16, FRAMES, *SIZE, generator=torch.Generator().manual_seed(0))
    sigmas = torch.ones(len(clips), chunks)
    before = cues.couple(noise, sigmas)
    assert torch.equal(before[:, :, CHUNK_FRAMES:], noise[:, :, CHUNK_FRAMES:])
    assert torch.equal(cues.couple(noise, 0.5 * sigmas), noise)
    truth = torch.stack([clip.latents for clip in clips])
    past = cues.forget(truth, share=0.5, absent=absent)
    told = cues.couple(noise, sigmas)
    forgotten = 0
    for row, clip in enumerate(clips):
        gone = (past[row] != truth[row]).any(0)
        told_chunks = (told[row] != before[row]).any(0).flatten(1).any(1)[::CHUNK_FRAMES]
        if not gone.any():
            assert not told_chunks.any()
            continue
        forgotten += 1
        first = int(told_chunks.int().argmax())
        assert told_chunks[first:].all() and 0 < first < chunks
        begin = (first - 1) * CHUNK_FRAMES
        assert not gone[:begin].any()
        if absent:
            kept = slice(0, 8) if clip.missing else slice(8, 16)  # channels of another thing
            assert torch.equal(past[row][:, begin:], clip.without[:, begin:])
            assert torch.equal(told[row, kept], before[row, kept])
            continue
        assert any(
            torch.equal(gone[begin:], clip.shows(thing)[begin:])
            for thing in range(len(clip.scene.things))
        )
        assert torch.equal(past[row][:, gone], still(clip.latents).expand_as(past[row])[:, gone])
    assert 5 <= forgotten <= 15


def test_a_clip_shows_its_things_where_they_are():
    clip = clip_with(1)
    shown = clip.shows(0)
    assert shown.shape == (FRAMES, *SIZE)
    drawn = draw(clip.scene, torch.tensor([clip.video_frame(frame) + 1 for frame in range(FRAMES)]))
    there = (drawn - ground(clip.scene)).abs().amax(1) > 0.2
    assert avg_pool2d(there.float(), 8)[~shown].max() < 0.2
    assert avg_pool2d(there.float(), 8)[shown].mean() > 0.4


def test_the_other_version_of_a_clip_lacks_one_thing_and_no_other():
    number, (scene, moment) = next(
        each for each in enumerate(scenes(SHARDS)) if len(each[1][0].things) == 2
    )
    gone = missing(number, scene)
    latents, without = encoded([(scene, moment), (lacking(scene, gone), moment)]).float()
    clip = Clip(latents=latents, scene=scene, moment=moment)
    changed = (latents - without).abs().mean(0)
    assert changed[clip.shows(gone)].mean() > 10 * changed[clip.shows(1 - gone)].mean()
    assert changed[clip.shows(gone)].min() > changed[clip.shows(1 - gone)].mean()


def test_every_step_has_its_phase():
    assert sum(phase.steps for phase in PHASES) == SCHEDULE.steps
    assert [phase_of(step) for step in (0, 3499, 3500, 4500)] == [PHASES[i] for i in (0, 0, 1, 2)]
    assert phase_of(SCHEDULE.steps - 1) == PHASES[-1]
