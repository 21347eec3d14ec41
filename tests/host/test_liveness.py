"""Forgetting what nothing will read changes nothing: the same video as from keeping everything."""

import comfy.samplers
import pytest
import tiny
import torch

from benchmarks.reservoir import ReservoirPlan
from relax_memory.host.model.attention import with_memory
from relax_memory.host.sampling.prompts import Film, Prompts
from relax_memory.host.sampling.sampler import RolloutSampler
from relax_memory.memory.storage import Storage
from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory
from relax_memory.storyboard import Storyboard

SIGMAS = torch.tensor([1.0, 0.7, 0.0])
RESERVOIR = 18
POLICIES = {
    "paper": {},
    "more history": {"history_frames": 2, "history_candidates": 6},
    "long tail": {"tail_frames": 5},
    "no sink": {"sink_frames": 0},
    "absolute": {"rope": "absolute"},
}


def sample(plan_type, *, device="gpu", chunk_frames=3, prefix=None, **settings):
    """Kept latents `[2, 16, T, 4, 6]` and what each chunk chose."""
    policy = RelaxedMemory(reservoir_frames=RESERVOIR, **settings)
    storyboard = Storyboard(
        policy,
        plan_type=plan_type,
        total_frames=36,
        chunk_frames=chunk_frames,
        prefix_frames=0 if prefix is None else prefix.shape[2],
    )
    chunks, traces = [], []
    video = torch.zeros(2, 16, 36 + chunk_frames, 4, 6)
    if prefix is not None:
        video[:, :, : prefix.shape[2]] = prefix

    class Keeping:
        def keep(self, finished):
            chunks.append(finished.latents.clone())
            traces.append((finished.trace.history, finished.trace.scores))

    guider = comfy.samplers.CFGGuider(with_memory(tiny.model(), policy, Storage(device=device)))
    guider.inner_set_conds({"positive": tiny.conditioning(1)})
    guider.set_cfg(1.0)
    empty = torch.zeros(2, 16, chunk_frames, 4, 6)
    sampler = RolloutSampler(
        Film(storyboard, Prompts(storyboard, {})), video=video, keepers=[Keeping()]
    )
    guider.sample(empty, empty, sampler, SIGMAS, disable_pbar=True, seed=7)
    return torch.cat(chunks, dim=2), traces


@pytest.mark.parametrize("settings", POLICIES.values(), ids=POLICIES)
def test_liveness_gives_the_bits_of_keeping_everything(settings):
    video, traces = sample(Plan, **settings)
    kept_video, kept_traces = sample(ReservoirPlan, **settings)
    assert torch.equal(video, kept_video)
    assert traces == kept_traces
    assert any(any(scores) for _, scores in traces)


@pytest.mark.parametrize("device", ["gpu", "cpu"])
@pytest.mark.parametrize("chunk_frames", [2, 4])
def test_so_it_does_for_other_chunks_and_tiers_after_a_prefix(device, chunk_frames):
    prefix = torch.randn(2, 16, 6, 4, 6, generator=torch.Generator().manual_seed(2))
    settings = {"device": device, "chunk_frames": chunk_frames, "prefix": prefix}
    video, traces = sample(Plan, **settings)
    kept_video, kept_traces = sample(ReservoirPlan, **settings)
    assert torch.equal(video, kept_video)
    assert traces == kept_traces


def test_keeping_everything_keeps_a_full_reservoir():
    plan, keeping = (
        kind(RelaxedMemory(reservoir_frames=RESERVOIR), total_frames=36, chunk_frames=3)
        for kind in (Plan, ReservoirPlan)
    )
    assert keeping.peak_frames(ahead_chunks=0) == RESERVOIR - 3
    assert plan.peak_frames(ahead_chunks=0) < RESERVOIR - 3
