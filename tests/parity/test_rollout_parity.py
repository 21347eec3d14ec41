"""The pack's real nodes in the real host equal the literal reference, choice for choice."""

import dataclasses
import importlib
import itertools
from pathlib import Path

import pytest
import tiny
import torch
from comfy.model_patcher import ModelPatcher
from hypothesis import given, settings, strategies
from parity import cases, reference
from parity.cases import SIGMAS, TOLERANCE, Case, error, expected
from parity.reference import Relaxed

TWO_STEPS = {"sigmas": (1.0, 0.8333333, 0.0), "sigmas_first": SIGMAS}
CASES = {
    "growing reservoir": Case(frames=45),
    "evicting reservoir": Case(memory=Relaxed(reservoir=15), frames=45),
    "smallest reservoir": Case(memory=Relaxed(reservoir=7)),
    "history of 2": Case(memory=Relaxed(history=2, reservoir=20), frames=36),
    "history of 3 of 6": Case(memory=Relaxed(history=3, candidates=6, redundancy_weight=0.5)),
    "1 candidate": Case(memory=Relaxed(candidates=1)),
    "9 candidates": Case(memory=Relaxed(candidates=9, reservoir=24), frames=36),
    "no redundancy": Case(memory=Relaxed(redundancy_weight=0.0)),
    "no sink": Case(memory=Relaxed(sink=0, reservoir=18), frames=30),
    "no sink, history of 2": Case(memory=Relaxed(sink=0, history=2)),
    "1 sink": Case(memory=Relaxed(sink=1)),
    "tail of 3": Case(memory=Relaxed(tail=3, reservoir=18), frames=30),
    "tail of 4, 4 sinks": Case(memory=Relaxed(sink=4, tail=4)),
    "no history": Case(memory=Relaxed(history=0, reservoir=15)),
    "no history, frame by frame": Case(memory=Relaxed(history=0), n=1, frames=12),
    "no history, smallest reservoir": Case(memory=Relaxed(history=0, reservoir=6)),
    "absolute": Case(memory=Relaxed(rope="absolute"), frames=45),
    "absolute, evicting": Case(memory=Relaxed(rope="absolute", reservoir=15, history=2), frames=36),
    "absolute, smallest reservoir": Case(memory=Relaxed(rope="absolute", reservoir=7)),
    "frame by frame": Case(memory=Relaxed(reservoir=14), n=1),
    "chunks of 4": Case(memory=Relaxed(reservoir=16), n=4, frames=32),
    "trimmed": Case(frames=20),
    "batch of 2": Case(memory=Relaxed(reservoir=18), batch=2, frames=30),
    "batch of 2, history of 2": Case(memory=Relaxed(history=2), batch=2),
    "cfg": Case(memory=Relaxed(reservoir=18), cfg=3.0),
    "cfg, batch of 2": Case(memory=Relaxed(reservoir=18), cfg=3.0, batch=2),
    "cfg, prompts of other lengths": Case(memory=Relaxed(reservoir=18), cfg=3.0, tokens=(8, 5)),
    "from 1 frame": Case(given=1),
    "from 5 frames": Case(given=5),
    "from 12 frames": Case(memory=Relaxed(reservoir=12), given=12),
    "from 20 frames, evicting": Case(memory=Relaxed(reservoir=12), given=20, frames=27),
    "from 4 frames, frame by frame": Case(memory=Relaxed(reservoir=12), given=4, n=1, frames=18),
    "from 4 frames, batch of 2, cfg": Case(given=4, batch=2, cfg=3.0, frames=16),
    "from 4 frames, absolute": Case(memory=Relaxed(rope="absolute"), given=4),
    "first schedule": Case(**TWO_STEPS, memory=Relaxed(reservoir=15), frames=30),
    "first schedule, frame by frame, cfg, batch of 2": Case(
        **TWO_STEPS, memory=Relaxed(reservoir=12), frames=14, n=1, cfg=3.0, batch=2
    ),
    "first schedule, from 4 frames": Case(**TWO_STEPS, memory=Relaxed(reservoir=15), given=4),
    "1 step": Case(sigmas=(1.0, 0.0), sigmas_first=SIGMAS, n=1, frames=14),
    "no clean pass": Case(clean_pass=False, memory=Relaxed(reservoir=15), frames=36),
    "no clean pass, cfg": Case(clean_pass=False, cfg=3.0),
    "no clean pass, batch of 2, cfg": Case(
        clean_pass=False, memory=Relaxed(reservoir=15), cfg=3.0, batch=2, frames=27
    ),
    "no clean pass, frame by frame": Case(
        clean_pass=False, memory=Relaxed(reservoir=12), n=1, frames=16
    ),
    "no clean pass, frame by frame, cfg, batch of 2": Case(
        clean_pass=False, memory=Relaxed(reservoir=12), n=1, frames=14, cfg=3.0, batch=2
    ),
    "no clean pass, first schedule": Case(**TWO_STEPS, clean_pass=False, n=1, frames=14),
    "no clean pass, 1 step": Case(sigmas=(1.0, 0.0), clean_pass=False, frames=18),
    "no clean pass, from 4 frames": Case(clean_pass=False, given=4, cfg=3.0, frames=19),
    "no clean pass, absolute": Case(clean_pass=False, memory=Relaxed(rope="absolute")),
}
for path in sorted(Path(__file__).parent.glob("memories/*.py")):
    CASES |= importlib.import_module(f"parity.memories.{path.stem}").CASES


def assert_same_choices(trace, case: Case) -> None:
    """Every row read the reference's frames and scored the same candidates alike."""
    _, choices = expected(case)
    assert set(trace.rows) == set(choices)
    for row, label in enumerate(trace.rows):
        assert len(trace.chunks) == len(choices[label])
        for chunk, choice in zip(trace.chunks, choices[label], strict=True):
            read = {*chunk.sink, *chunk.history[row], *chunk.tail}
            assert read == {*choice.sink, *choice.history, *choice.tail}, (label, chunk)
            if choice.history and choice.candidates:
                assert (chunk.sink, chunk.tail) == (choice.sink, choice.tail)
                assert chunk.candidates == choice.candidates
                assert chunk.history[row] == choice.history
            if 0 < len(choice.history) < len(choice.candidates):
                assert chunk.scores[row] == pytest.approx(choice.scores, abs=2e-5)


def assert_equal_to_reference(case: Case, latents: torch.Tensor, trace) -> None:
    assert_same_choices(trace, case)
    assert error(latents, expected(case)[0]) < TOLERANCE


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_nodes_equal_the_reference(case):
    assert_equal_to_reference(case, *cases.got(case))


@strategies.composite
def drawn_cases(draw):
    """Any sizes that a rollout accepts: memory, chunks, batch, guidance and given frames."""

    def count(least, most):
        return draw(strategies.integers(least, most))

    n, sink, tail, candidates = count(1, 5), count(0, 4), count(1, 4), count(0, 7)
    history = count(0, min(candidates, 4))
    memory = Relaxed(
        sink=sink,
        history=history,
        tail=tail,
        candidates=candidates,
        redundancy_weight=draw(strategies.sampled_from([-1.0, 0.0, 0.5, 2.0])),
        reservoir=sink + history + tail + n + count(0, 20),
        rope=draw(strategies.sampled_from(["hybrid", "absolute"])),
    )
    given = count(0, 15)
    levels = [(1.0, 0.0), (1.0, 0.8333333, 0.0), SIGMAS]
    return Case(
        memory=memory,
        frames=given + n * count(1, 8) - count(0, n - 1),
        n=n,
        batch=count(1, 3),
        cfg=draw(strategies.sampled_from([1.0, 3.0])),
        given=given,
        seed=count(0, 2**40),
        sigmas=draw(strategies.sampled_from(levels)),
        sigmas_first=draw(strategies.sampled_from([None, *levels])),
        clean_pass=draw(strategies.booleans()),
    )


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(case=drawn_cases())
def test_any_settings_equal_the_reference(case):
    assert_equal_to_reference(case, *cases.got(case))


@pytest.mark.parametrize(
    "name",
    ["evicting reservoir", "absolute", "cfg, batch of 2", "window with sinks", "from 5 frames"],
)
def test_the_causal_model_equals_the_reference_too(name):
    assert_equal_to_reference(CASES[name], *cases.got(CASES[name], kind="causal"))


@pytest.mark.parametrize("name", ["batch of 2", "batch of 2, history of 2", "cfg, batch of 2"])
def test_samples_of_the_batch_do_choose_differently(name):
    _, choices = expected(CASES[name])
    rows = zip(choices["positive 0"], choices["positive 1"], strict=True)
    assert sum(a.history != b.history for a, b in rows) >= 3


def test_positive_and_negative_choose_alike():
    """Layer 0 makes its keys before any block has read the text, so prototypes do not know it."""
    _, choices = expected(CASES["cfg, batch of 2"])
    for sample in range(2):
        assert choices[f"positive {sample}"] == choices[f"negative {sample}"]


def test_no_choice_is_so_close_that_rounding_could_turn_it():
    for case in CASES.values():
        for choice in itertools.chain(*expected(case)[1].values()):
            lots = [i in choice.history for i in choice.candidates]
            chosen, left = (
                [r for r, lot in zip(choice.scores, lots, strict=True) if lot is x]
                for x in (True, False)
            )
            assert not chosen or not left or min(chosen) - max(left) > 1e-4


def calls_of(model: ModelPatcher) -> tuple[ModelPatcher, list]:
    """A model that notes for every call of the network which conditionings it is for."""
    calls, model = [], model.clone()

    def note(apply_model, args):
        calls.append(sorted(args["cond_or_uncond"]))
        return apply_model(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(note)
    return model, calls


@pytest.mark.parametrize("name", ["cfg", "cfg, batch of 2"])
@pytest.mark.parametrize("free_bytes", [1 << 40, 0], ids=["one call", "two calls"])
def test_one_call_or_two_for_positive_and_negative(name, free_bytes, monkeypatch):
    case = CASES[name]
    monkeypatch.setattr(ModelPatcher, "get_free_memory", lambda self, device: free_bytes)
    model, calls = calls_of(cases.with_memory(tiny.model(), case.memory))
    assert_equal_to_reference(case, *cases.sample(case, model))
    assert [0, 1] in calls if free_bytes else calls.count([0]) == calls.count([1]) > 0


def test_prompts_of_other_lengths_take_two_calls():
    case = CASES["cfg, prompts of other lengths"]
    model, calls = calls_of(cases.with_memory(tiny.model(), case.memory))
    cases.sample(case, model)
    assert [0, 1] not in calls


def test_a_model_without_a_memory_node_has_the_papers_settings():
    case = Case(frames=30)
    assert_equal_to_reference(case, *cases.sample(case, tiny.model()))


def test_four_steps_at_shift_5_are_the_papers_sigmas():
    case = Case(frames=12)
    model = cases.with_memory(tiny.model("causal"), case.memory)
    assert_equal_to_reference(case, *cases.sample(case, model, sigmas=None))


@pytest.mark.parametrize("name", ["batch of 2, history of 2", "cfg, batch of 2"])
def test_where_the_reservoir_lies_changes_no_bit(name):
    case = CASES[name]
    on_gpu, on_cpu = (
        cases.sample(case, cases.with_memory(tiny.model(), case.memory, device=device))
        for device in ("gpu", "cpu")
    )
    assert_equal_to_reference(case, *on_cpu)
    assert torch.equal(on_gpu[0], on_cpu[0])


def test_a_video_continues_from_its_own_beginning():
    whole, _ = cases.got(Case(memory=Relaxed(reservoir=15), frames=30))
    case = Case(memory=Relaxed(reservoir=15), frames=30)
    model = cases.with_memory(tiny.model(), case.memory)
    again, _ = cases.sample(case, model, prefix={"samples": whole[:, :, :18]})
    assert error(again, whole.double()) < TOLERANCE


def test_given_frames_come_back_as_they_were_given():
    case = CASES["from 5 frames"]
    latents, trace = cases.got(case)
    assert error(latents[:, :, :5], case.prefix.double()) < 1e-6
    assert [chunk.given for chunk in trace.chunks[:3]] == [True, True, False]


def changed(memory, **changes) -> dict[str, Case]:
    return {
        name: Case(memory=dataclasses.replace(memory, **{name: x})) for name, x in changes.items()
    }


WRONG = changed(
    Relaxed(reservoir=15),
    rope="absolute",
    sink=1,
    history=2,
    tail=2,
    candidates=2,
    redundancy_weight=-2.0,
    reservoir=9,
)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_reference_with_another_setting_is_far_off(wrong):
    right, _ = cases.got(Case(memory=Relaxed(reservoir=15)))
    assert error(right, expected(wrong)[0]) > 20 * TOLERANCE


def test_a_reference_with_other_passes_is_far_off():
    right, _ = cases.got(CASES["no clean pass, first schedule"])
    for change in ({"clean_pass": True}, {"sigmas_first": None}, {"sigmas": SIGMAS}):
        wrong = dataclasses.replace(CASES["no clean pass, first schedule"], **change)
        assert error(right, expected(wrong)[0]) > 20 * TOLERANCE


@pytest.mark.parametrize("argument", range(4))
def test_a_reference_with_other_noise_is_far_off(argument, monkeypatch):
    right, _ = cases.got(Case(frames=6))
    original = reference.noise

    def other(*key, shape):
        return original(*(k + (i == argument) for i, k in enumerate(key)), shape=shape)

    monkeypatch.setattr(reference, "noise", other)
    assert error(right, expected.__wrapped__(Case(frames=6))[0]) > 20 * TOLERANCE
