"""Faults planted into the pack, each found: a detector never seen to detect proves nothing."""

import gc

import comfy.model_management
import pytest
import torch
from device import host
from device.cards import CARDS, RUNTIME
from device.clocks import Stream
from device.conftest import left_behind
from device.figures import PASSES, relaxed
from device.ledger import LEDGER
from device.test_films import film, made
from device.test_same_bits import latents


@pytest.fixture
def plant(monkeypatch):
    """`plant(module, "Class.name", value)`; a fault is gone with the test, its traces too."""

    def plant(module: str, name: str, value) -> None:
        owner = host.part(module)
        *outer, name = name.split(".")
        for each in outer:
            owner = getattr(owner, each)
        monkeypatch.setattr(owner, name, value)

    yield plant
    gc.collect()  # what an exception's frames hold
    RUNTIME.pinned.clear()
    LEDGER.races.clear()


def found(where: str = "cpu", **inputs) -> str:
    """All that the detectors say of a run."""
    model = host.remembering(host.model(), reservoir_device=where)
    host.sample(model, steps=1, **inputs)
    host.unload_all()
    said = "; ".join(left_behind())
    LEDGER.races.clear()
    return said


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_without_a_fault_nothing_is_found(where):
    assert found(where) == ""


def test_a_tensor_on_the_wrong_device(plant):
    transfer = host.part("memory.transfer").Transfer
    fetch = transfer.fetch

    def to_the_other_card(self, sources):
        self._device = torch.device("cuda", 1)
        return fetch(self, sources)

    plant("memory.transfer", "Transfer.fetch", to_the_other_card)
    with pytest.raises(RuntimeError, match="same device"):
        found()


def test_noise_that_stays_on_the_host(plant):
    plant("host.sampling.latents", "FrameNoise.noise", lambda self, *_: torch.zeros(self._shape))
    with pytest.raises(RuntimeError, match="same device"):
        found()


def test_a_copy_that_nobody_waits_for(plant):
    plant("memory.transfer", "Crossing.wait", lambda self: None)
    said = found()
    assert "a read beside the write" in said
    assert "given back beside the read" in said


def test_a_copy_that_does_not_wait_for_what_it_copies(monkeypatch):
    monkeypatch.setattr(Stream, "wait_stream", lambda self, stream: None)
    assert "a read beside the write" in found()


def test_a_fetch_into_memory_that_is_still_in_use(plant, monkeypatch):
    transfer = host.part("memory.transfer").Transfer
    fetch = transfer.fetch

    def at_once(self, sources):
        with monkeypatch.context() as patch:
            patch.setattr(Stream, "wait_stream", lambda self, stream: None)
            return fetch(self, sources)

    plant("memory.transfer", "Transfer.fetch", at_once)
    assert "a write beside the write of what had this memory before" in found()


def test_an_event_that_is_recorded_before_the_copy(plant):
    """Whoever waits for it waits for nothing."""
    transfer = host.part("memory.transfer").Transfer
    cross = transfer._cross

    def record_first(self, copies, on_device):
        over = self._stream.record_event()
        crossing = cross(self, copies, on_device)
        crossing.over.clock = over.clock
        return crossing

    plant("memory.transfer", "Transfer._cross", record_first)
    assert "a read beside the write" in found()


def test_the_host_reads_what_the_card_has_not_written_yet(plant):
    send = host.part("memory.transfer").Transfer.send

    def and_look(self, copies):
        send(self, copies)
        copies[0][0].flatten()[0].item()

    plant("memory.transfer", "Transfer.send", and_look)
    assert "pinned memory: a read beside the write" in found()


def test_scores_that_are_read_before_they_are_there(plant):
    """What `to` brings to the host without a wait looks like any other tensor of it."""

    def read(scores):
        return tuple(map(tuple, scores.to("cpu", non_blocking=True).tolist()))

    plant("memory.recall", "_read", read)
    assert "pinned memory, by torch: a read beside the write" in found("gpu")


def test_a_wait_in_every_layer(plant):
    """No detector of races sees it; the figures of a chunk do."""
    read = host.part("memory.recall").Memory.read

    def and_look(self, pass_, layer, keys, *others):
        float(keys.flatten()[0])
        return read(self, pass_, layer, keys, *others)

    before = relaxed({})["waits"]
    plant("memory.recall", "Memory.read", and_look)
    assert relaxed({})["waits"] - before >= 30 * PASSES


def test_a_slot_that_is_fetched_while_it_is_still_filled(plant):
    transfer = host.part("memory.transfer").Transfer
    fetch = transfer.fetch

    def on_a_stream_of_its_own(self, sources):
        self._stream, before = Stream(self._device), self._stream
        try:
            return fetch(self, sources)
        finally:
            self._stream = before

    plant("memory.transfer", "Transfer.fetch", on_a_stream_of_its_own)
    assert "pinned memory: a read beside the write" in found()


@pytest.mark.parametrize("planted", [True, False])
def test_a_bank_that_grows_before_all_that_was_sent_is_there(plant, planted):
    """Its content is copied by the host."""
    if planted:
        plant("memory.transfer", "Transfer.settle", lambda self: None)
    transfer = host.part("memory.transfer").Transfer(torch.device("cuda", 0))
    bank = host.part("memory.bank").Bank(layers=1, capacity_frames=1, transfer=transfer)
    bank.keep([0])
    bank.store(
        0, {0: (torch.ones(1, 4, 1, 8, device="cuda"), torch.ones(1, 4, 1, 8, device="cuda"))}
    )
    bank.grow(2)
    bank.keep([0, 1])
    assert bank.slot(0) != bank.slot(1)
    assert any("pinned memory: a read beside the write" in r for r in LEDGER.races) == planted


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_a_slot_that_is_filled_before_what_was_in_it_is_read(plant, where):
    commit = host.part("memory.recall").Memory.commit

    def read_last(self, *arguments):
        place, given = self._place, []
        self._place = lambda layer, coming: given.extend((layer, coming)) or [{} for _ in coming]
        commit(self, *arguments)
        del self._place
        place(*given)

    expected = latents("batch", "cuda:0", where)
    plant("memory.recall", "Memory.commit", read_last)
    assert not torch.equal(latents.__wrapped__("batch", "cuda:0", where), expected)


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_two_frames_in_one_slot(plant, where):
    bank = host.part("memory.bank").Bank
    keep = bank.keep

    def keep_in_fewer(self, frames):
        keep(self, frames)
        self._slots = {frame: slot // 2 for frame, slot in self._slots.items()}

    expected = latents("batch", "cuda:0", where)
    plant("memory.bank", "Bank.keep", keep_in_fewer)
    assert not torch.equal(latents.__wrapped__("batch", "cuda:0", where), expected)


def test_memory_that_is_given_back_while_it_is_copied(plant):
    send = host.part("memory.transfer").Transfer.send

    def and_forget(self, copies):
        send(self, copies)
        self._under_way.discard(self._sent)
        self._sent = None

    plant("memory.transfer", "Transfer.send", and_forget)
    assert "given back beside the read" in found()


@pytest.mark.parametrize("planted", [True, False])
def test_memory_that_is_given_back_where_a_run_ends(plant, planted):
    """By itself, since pinned memory that is released with the run waits too."""
    if planted:
        plant("memory.transfer", "_end", lambda under_way: under_way.clear())
    transfer = host.part("memory.transfer").Transfer(torch.device("cuda", 0))
    target = transfer.empty((4,), torch.float32)
    transfer.send([(target, torch.ones(4, device="cuda"))])
    del transfer
    assert any("given back beside the read" in race for race in LEDGER.races) == planted


def test_pinned_memory_that_is_released_while_it_is_written(plant):
    """Only a run that ends right after a clean pass shows it: any later wait covers it."""

    def without_waiting(pinned, address, stream):
        torch.cuda.cudart().cudaHostUnregister(address)

    plant("memory.transfer", "_unpin", without_waiting)
    model = host.remembering(host.model(), reservoir_device="cpu")
    host.stop_at_call(model, 8)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        host.sample(model, steps=1)
    del model
    gc.collect()
    assert any("unregistered beside the" in race for race in LEDGER.races)
    LEDGER.races.clear()


def test_pinned_memory_that_is_never_released(plant):
    plant("memory.transfer", "_unpin", lambda pinned, address, stream: None)
    assert "bytes of pinned memory" in found()


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_a_text_that_is_kept_when_another_is_said(plant, where):
    positive = film("keep", chunks=2, shots=3)
    expected, _ = made(positive, 6, where)
    plant("host.model.text", "_Text.is_of", lambda self, parts: len(parts) == len(self.streams))
    assert not torch.equal(made(positive, 6, where)[0], expected)


def test_a_text_that_outlives_the_run(plant):
    plant("host.model.text", "Texts.forget", lambda self: None)
    model = host.remembering(host.model())
    host.sample(model, steps=1)
    host.unload_all()
    assert any(f"bytes on {CARDS[0].device}" in each for each in left_behind())
    host.part("host.model.text").texts_of(model.model.diffusion_model)._said = []


def test_keys_that_outlive_the_run(plant):
    commit, kept = host.part("memory.recall").Memory.commit, []

    def and_keep(self, chunk, layer, keys, *others):
        kept.append(keys)
        commit(self, chunk, layer, keys, *others)

    plant("memory.recall", "Memory.commit", and_keep)
    assert f"bytes on {CARDS[0].device}" in found("gpu")
    kept.clear()


def test_keys_that_only_a_cycle_holds(plant):
    read = host.part("memory.recall").Memory.read

    def and_hold(self, *arguments):
        self.itself = self
        return read(self, *arguments)

    plant("memory.recall", "Memory.read", and_hold)
    assert f"bytes on {CARDS[0].device}" in found("gpu")
