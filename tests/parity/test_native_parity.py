"""The pack beside the host's samplers: equal where both mean the same, absent where not used."""

import dataclasses
import functools
import gc
import weakref
from contextlib import nullcontext

import comfy.sample
import nodes as host_nodes
import pytest
import tiny
import torch
from comfy.model_management import InterruptProcessingException
from comfy_extras import nodes_ar_video, nodes_custom_sampler
from parity import cases, reference
from parity.cases import TOLERANCE, Case, error
from parity.memories.window import Window
from parity.reference import Relaxed, noise

ROUNDING = 2e-6  # float32 with memory at negative times against true times; measured 3.3e-7
DENSE = Window(window_frames=0)
STATE = {"Session", "Memory", "Bank", "KeyValueBuffer"}  # classes that live for one run


def empty(frames: int, batch: int = 1) -> dict:
    return {"samples": torch.zeros(batch, 16, frames, cases.HEIGHT // 8, cases.WIDTH // 8)}


def advanced(model, sampler, prompts: dict, frames: int, *, cfg=1.0, batch=1, seed=5):
    """Latents of the host's SamplerCustomAdvanced, with a basic or, for cfg, a CFG guider."""
    if cfg == 1:
        guider = nodes_custom_sampler.BasicGuider.execute(model, *prompts.values())
    else:
        guider = nodes_custom_sampler.CFGGuider.execute(model, *prompts.values(), cfg)
    noise = nodes_custom_sampler.RandomNoise.execute(seed)
    output = nodes_custom_sampler.SamplerCustomAdvanced.execute(
        noise.result[0],
        guider.result[0],
        sampler,
        torch.tensor(cases.SIGMAS),
        empty(frames, batch),
    )
    return output.result[0]["samples"]


@functools.cache
def native(n: int, frames: int, batch: int = 1) -> torch.Tensor:
    """What the host's SamplerARVideo makes of the unpatched causal model; it knows no cfg."""
    sampler = nodes_ar_video.SamplerARVideo.execute(n).result[0]
    return advanced(tiny.model("causal"), sampler, Case().prompts, frames, batch=batch)


def ours(
    memory, n: int, frames: int, *, kind="causal", prompts=None, clean_pass="always", **options
) -> torch.Tensor:
    """What our SAMPLER makes of the same model after a memory node."""
    select = {"frames_per_chunk": n, "clean_pass": clean_pass}
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", **select)
    model = cases.with_memory(tiny.model(kind), memory)
    return advanced(model, sampler, prompts or Case().prompts, frames, **options)


@pytest.mark.parametrize(("n", "frames"), [(3, 6), (3, 5), (4, 8), (1, 5)])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_dense_start_is_the_hosts_sampler(n, frames, batch):
    expected = native(n, frames, batch)
    assert error(ours(Relaxed(), n, frames, batch=batch), expected.double()) < ROUNDING


@pytest.mark.parametrize(("n", "frames"), [(3, 36), (1, 12), (3, 35), (3, 34), (4, 18)])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_window_without_limit_is_the_hosts_sampler_at_any_length(n, frames, batch):
    expected = native(n, frames, batch)
    assert error(ours(DENSE, n, frames, batch=batch), expected.double()) < ROUNDING


def test_bounded_memory_leaves_the_hosts_sampler_after_the_dense_start():
    got, dense = ours(Relaxed(), 3, 12), native(3, 12)
    assert error(got[:, :, :6], dense[:, :, :6].double()) < ROUNDING
    assert error(got[:, :, 6:], dense[:, :, 6:].double()) > 1000 * ROUNDING


@pytest.mark.parametrize("kind", ["wan", "causal"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("clean_pass", ["always", "never"])
def test_our_sampler_equals_the_reference_with_the_hosts_noise(kind, cfg, clean_pass, monkeypatch):
    case = Case(
        memory=Relaxed(reservoir=15),
        frames=27,
        batch=2,
        cfg=cfg,
        clean_pass=clean_pass == "always",
    )
    start = comfy.sample.prepare_noise(empty(case.frames, case.batch)["samples"], case.seed)

    def host_noise(seed, sample, first_frame, draw, shape):
        frames = slice(first_frame, first_frame + case.n)
        if draw == 0:
            return start[sample, :, frames].double()
        step = torch.Generator().manual_seed(seed + 1000 * (first_frame // case.n) + draw - 1)
        return torch.randn((case.batch, *shape), generator=step)[sample].double()

    monkeypatch.setattr(reference, "noise", host_noise)
    expected, _ = cases.expected.__wrapped__(case)
    options = {"prompts": case.prompts, "cfg": cfg, "batch": case.batch, "seed": case.seed}
    options["clean_pass"] = clean_pass
    assert error(ours(case.memory, 3, case.frames, kind=kind, **options), expected) < TOLERANCE


def test_our_sampler_without_a_memory_node_has_the_papers_settings():
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)
    bare = tiny.model("causal")
    before = ordinary(bare, "euler")
    assert torch.equal(advanced(bare, sampler, Case().prompts, 12), ours(Relaxed(), 3, 12))
    assert torch.equal(ordinary(bare, "euler"), before)


def test_without_a_memory_node_what_others_put_into_the_model_stays_there():
    events = []

    class Patch:
        def __call__(self, arguments):
            events.append("used")
            return arguments["x"]

        def to(self, device):
            events.append("moved")
            return self

    bare = tiny.model("causal").clone()
    bare.set_model_attn1_patch(Patch())
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)
    advanced(bare, sampler, Case().prompts, 6)
    first, last = events.index("used"), len(events) - events[::-1].index("used")
    assert "moved" not in events[first:last]


def ordinary(model, sampler: str, seed: int = 3) -> torch.Tensor:
    (latent,) = host_nodes.common_ksampler(
        model, seed, 3, 3.0, sampler, "simple", tiny.conditioning(1), tiny.conditioning(2), empty(9)
    )
    return latent["samples"]


@pytest.mark.parametrize("kind", ["wan", "causal"])
@pytest.mark.parametrize("memory", [Relaxed(), Window()], ids=["relaxed", "window"])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_an_ordinary_sampler_does_not_notice_the_memory(kind, memory, sampler):
    patched = cases.with_memory(tiny.model(kind), memory)
    before = ordinary(tiny.model(kind), sampler)
    assert torch.equal(ordinary(patched, sampler), before)
    cases.sample(Case(frames=9), patched)
    assert torch.equal(ordinary(patched, sampler), before)
    assert torch.equal(ordinary(tiny.model(kind), sampler), before)


def test_the_hosts_autoregressive_sampler_does_not_notice_the_memory():
    sampler = nodes_ar_video.SamplerARVideo.execute(3).result[0]
    patched = cases.with_memory(tiny.model("causal"), Relaxed())
    assert torch.equal(advanced(patched, sampler, Case().prompts, 9), native(3, 9))


@pytest.mark.parametrize("case", [Case(cfg=3.0), Case(batch=2), Case(given=5)])
def test_sampling_twice_gives_the_same_bits(case):
    model = cases.with_memory(tiny.model(), case.memory)
    (first, trace), (second, again) = cases.sample(case, model), cases.sample(case, model)
    assert torch.equal(first, second)
    assert [chunk.history for chunk in trace.chunks] == [chunk.history for chunk in again.chunks]


def test_sampling_leaves_the_global_random_state_alone():
    state = torch.random.get_rng_state()
    cases.got(Case(frames=6))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "case",
    [
        Case(memory=Relaxed(reservoir=15)),
        Case(memory=Relaxed(history=2), batch=2, cfg=3.0),
        Case(memory=Relaxed(), given=4),
        Case(memory=Relaxed(rope="absolute")),
        Case(memory=Window(sink_frames=1, window_frames=6)),
    ],
    ids=["evicting", "batch, cfg", "prefix", "absolute", "window"],
)
def test_twelve_chunks_are_the_first_twelve_of_thirty(case):
    short, _ = cases.got(dataclasses.replace(case, frames=36))
    long, _ = cases.got(dataclasses.replace(case, frames=90))
    assert torch.equal(short, long[:, :, :36])


def test_every_chunk_starts_from_the_noise_of_the_contract():
    seen, case = [], Case(frames=12, batch=2, seed=2**63 - 1)
    model = cases.with_memory(tiny.model(), case.memory).clone()

    def note(apply_model, args):
        if float(args["timestep"][0]) == 1.0:
            seen.append(args["input"].clone())
        return apply_model(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(note)
    cases.sample(case, model)
    assert len(seen) == 4
    for index, chunk in enumerate(seen):
        for sample, got in enumerate(chunk):
            assert torch.equal(got.double(), noise(case.seed, sample, 3 * index, 0, got.shape))


def state_of_runs() -> list:
    """Living objects that hold a run's state, or its keys and values."""
    return [
        x
        for x in gc.get_objects()
        if type(x).__name__ in STATE and "relax_memory" in type(x).__module__
    ]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("interrupted", [False, True])
def test_nothing_of_a_session_survives_the_run(cfg, interrupted):
    references, kinds, calls = [], set(), []
    model = cases.with_memory(tiny.model(), Relaxed()).clone()

    def note(apply_model, args):
        calls.append(args["cond_or_uncond"])
        if len(calls) == 12:  # in the third chunk, with frames in memory
            references.extend(weakref.ref(x) for x in state_of_runs())
            kinds.update(type(x).__name__ for x in state_of_runs())
            if interrupted:
                raise InterruptProcessingException
        return apply_model(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(note)
    with pytest.raises(InterruptProcessingException) if interrupted else nullcontext():
        cases.sample(Case(frames=9, cfg=cfg), model)
    gc.collect()
    assert kinds == STATE
    assert not [x for x in references if x() is not None]
