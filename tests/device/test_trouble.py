"""Out of memory wherever it may come, refused pinning, a card that shrinks, a user who stops.

Each time: the host's own exception or the right video, nothing left on the card, and the next run
as if nothing had happened.
"""

import functools
import os
import random

import comfy.model_management
import pytest
import torch
from device import host
from device.cards import CARDS, RUNTIME
from device.conftest import left_behind

SMALLEST = {"width": 16, "height": 16, "frames_per_chunk": 1, "length": 29, "steps": 1}  # 8 chunks
STEADY = 5  # a chunk that finds all candidates, and is remembered for two later ones
MEMORY = {"sink_frames": 1, "history_candidates": 2, "reservoir_frames": 6}


def small_run(where: str = "gpu", marks: list | None = None, **settings) -> torch.Tensor:
    """8 chunks of one frame, the last three with a choice."""
    inputs = {key: settings.pop(key) for key in ("batch_size", "cfg", "vae") if key in settings}
    model = host.remembering(host.model(layers=1), reservoir_device=where, **MEMORY | settings)
    model = model if marks is None else host.watched(model, marks)
    run = host.stream if "vae" in inputs else host.sample
    return run(model, **SMALLEST | inputs)


@functools.cache
def expected(**settings) -> torch.Tensor:
    return small_run(**settings)


def fails(at: int, **settings) -> bool:
    """Whether a run whose allocation `at` finds no memory ends with the host's own exception."""
    CARDS[0].fails_at = at
    try:
        latents = small_run(**settings)
    except torch.OutOfMemoryError:
        return True
    finally:
        CARDS[0].fails_at = None
    assert torch.equal(latents, expected(**settings))  # the host or the decoder found another way
    return False


def nothing_is_left() -> bool:
    host.unload_all()
    return not left_behind()


def allocations(**settings) -> list[int]:
    """Numbers of the allocations before each call of the network, its weights loaded; then all."""
    small_run(**settings)
    before, marks = CARDS[0].allocations, []
    small_run(marks=marks, **settings)
    return [mark["allocations"] - before for mark in marks] + [CARDS[0].allocations - before]


def test_out_of_memory_at_allocations_of_a_steady_chunk():
    """Every sixth, which is a minute; EVERY_ALLOCATION=1 in the environment tries all of them."""
    step = 1 if os.environ.get("EVERY_ALLOCATION") else 6
    wanted = expected(where="cpu")
    calls = allocations(where="cpu")
    first, end = calls[2 * STEADY], calls[2 * STEADY + 2]
    assert 50 < end - first < 400
    weights = CARDS[0].used_bytes
    for at in range(first, end, step):
        assert fails(at, where="cpu")
        assert (CARDS[0].used_bytes, RUNTIME.pinned_bytes) == (weights, 0)
    assert torch.equal(small_run("cpu"), wanted)


@pytest.mark.parametrize(
    "settings",
    [
        {"where": "cpu", "reservoir_dtype": "fp8", "batch_size": 2},
        {"where": "gpu", "cfg": 2.0},
        {"where": "gpu", "rope": "absolute"},
        {"where": "gpu", "vae": host.vae()},
    ],
    ids=["cpu fp8", "cfg", "absolute", "stream"],
)
def test_out_of_memory_at_random_allocations(settings):
    *_, end = allocations(**settings)
    wanted, failed = expected(**settings), 0
    before = CARDS[0].used_bytes
    for at in random.Random(0).sample(range(end), 13):
        failed += fails(at, **settings)
        assert (CARDS[0].used_bytes, RUNTIME.pinned_bytes) == (before, 0)
    assert failed > 0  # a decoder starts over with less memory instead
    assert torch.equal(small_run(**settings), wanted)


def test_pinning_refused(monkeypatch, caplog):
    wanted = expected(where="cpu")
    monkeypatch.setattr(RUNTIME, "limit_bytes", 0)
    assert torch.equal(small_run("cpu"), wanted)
    assert sum("could be pinned" in record.message for record in caplog.records) == 1


def test_a_card_that_shrinks_while_it_runs(monkeypatch):
    """Another program takes the rest; the next run has the right video."""
    marks = []

    def shrink(network, arguments):
        marks.append(1)
        if len(marks) == 12:
            CARDS[0].total_bytes -= CARDS[0].free_bytes
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model = host.remembering(host.model(layers=1), **MEMORY)
    shrinking = model.clone()
    shrinking.set_model_unet_function_wrapper(shrink)
    with pytest.raises(torch.OutOfMemoryError):
        host.sample(shrinking, **SMALLEST | {"autosave": True})
    assert nothing_is_left()
    CARDS[0].total_bytes = host.CARD_BYTES
    latents = host.sample(model, **SMALLEST | {"autosave": True})
    assert torch.equal(latents, expected(where="gpu"))


def test_an_interrupt_at_checks_of_the_host(monkeypatch):
    check, wanted = comfy.model_management.throw_exception_if_processing_interrupted, []

    def later():
        wanted[0] -= 1
        if wanted[0] == 0:
            comfy.model_management.interrupt_current_processing(True)
        check()

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", later)
    wanted[:] = [0]
    small_run("cpu")
    weights, stopped = CARDS[0].used_bytes, 0
    for count in range(1, 40, 3):
        wanted[:] = [count]
        try:
            small_run("cpu")
        except comfy.model_management.InterruptProcessingException:
            stopped += 1
        assert (CARDS[0].used_bytes, RUNTIME.pinned_bytes) == (weights, 0)
    assert stopped > 7
