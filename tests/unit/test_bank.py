"""A bank keeps exactly the frames it is told to, in slots that are used again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relax_memory.memory.bank import Bank

LAYERS, SHAPE = 2, (2, 3, 2, 4)  # rows, tokens, heads, head_dim


def content(frame, layer):
    """Keys and values that tell which frame and layer they belong to."""
    return torch.full(SHAPE, 10.0 * frame + layer), torch.full(SHAPE, -10.0 * frame - layer)


def store(bank, frames):
    for layer in range(LAYERS):
        bank.store(layer, {frame: content(frame, layer) for frame in frames})


def holds(bank, slot, frame):
    return all(
        torch.equal(loaded, kept)
        for layer in range(LAYERS)
        for loaded, kept in zip(bank.load(layer, slot), content(frame, layer), strict=True)
    )


@given(st.lists(st.sets(st.integers(0, 15), max_size=5), max_size=12))
def test_a_bank_holds_what_it_was_last_told_to_keep(steps):
    bank, kept = Bank(layers=LAYERS, capacity_frames=5), set()
    for frames in steps:
        bank.keep(frames)
        store(bank, frames - kept)
        kept = frames
        assert bank.frames == tuple(sorted(frames))
        slots = [bank.slot(frame) for frame in frames]
        assert len(set(slots)) == len(slots)
        assert all(holds(bank, slot, frame) for slot, frame in zip(slots, frames, strict=True))
        assert all(bank.slot(frame) is None for frame in set(range(16)) - frames)


def test_memory_is_allocated_once():
    bank = Bank(layers=LAYERS, capacity_frames=3)
    assert bank.bytes == 0
    frame_bytes = 2 * LAYERS * 4 * torch.Size(SHAPE).numel()
    for first in range(20):
        frames = range(first, first + 3)
        new = [frame for frame in frames if bank.slot(frame) is None]
        bank.keep(frames)
        store(bank, new)
        assert bank.bytes == 3 * frame_bytes


def test_a_forgotten_frame_can_be_read_until_its_slot_is_filled():
    bank = Bank(layers=LAYERS, capacity_frames=1)
    bank.keep([4])
    store(bank, [4])
    slot = bank.slot(4)
    bank.keep([7])
    assert bank.slot(7) == slot
    assert holds(bank, slot, 4)
    store(bank, [7])
    assert holds(bank, slot, 7)


def test_what_is_stored_is_a_copy():
    bank = Bank(layers=LAYERS, capacity_frames=1)
    bank.keep([0])
    keys, values = content(0, 0)
    bank.store(0, {0: (keys, values)})
    keys.zero_()
    loaded, _ = bank.load(0, bank.slot(0))
    assert torch.equal(loaded, content(0, 0)[0])


def test_more_frames_than_slots_are_refused():
    bank = Bank(layers=LAYERS, capacity_frames=2)
    bank.keep([0, 1])
    with pytest.raises(RuntimeError, match="2 slots and needs one for frame 2"):
        bank.keep([0, 1, 2])


def test_a_bank_without_slots_takes_no_memory():
    bank = Bank(layers=LAYERS, capacity_frames=0)
    bank.keep([])
    assert bank.frames == ()
    assert bank.bytes == 0
