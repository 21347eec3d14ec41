"""Memory against a naive one that keeps every frame and rotates it in every read."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.naive_memory import (
    HEADS,
    LAYERS,
    TOKENS,
    KeySource,
    NaiveMemory,
    cleaning,
    denoising,
    make_memory,
    rotate,
)
from unit.strategies import CHUNK_FRAMES, bounded_policies, plans

from relax_memory.memory.bank import Bank
from relax_memory.memory.buffer import KeyValueBuffer
from relax_memory.memory.recall import Memory
from relax_memory.memory.transfer import Transfer
from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory, WindowMemory


def remember(memory, chunk, fresh):
    for layer in range(LAYERS):
        keys, values = fresh(chunk)
        memory.read(cleaning(chunk), layer, keys, values)
        memory.commit(chunk, layer, keys, values)


class Pair:
    """A memory and, for each of its rows, a naive one, compared in every read."""

    def __init__(self, plan, rows, *, seed=0, transfer=None):
        self.plan = plan
        self.memory = make_memory(plan, rows, transfer=transfer)
        self._naive = [NaiveMemory(plan.policy) for _ in range(rows)]
        self._fresh = KeySource(rows, seed)

    def run(self, chunks, first=0):
        """A noisy pass, which leaves nothing behind, and a clean one for each chunk."""
        for chunk in itertools.islice(self.plan, first, chunks):
            history = tuple(naive.history(chunk.roles) for naive in self._naive)
            assert self.memory.selection.history == history
            self._pass(chunk, history, remembered=False)
            yield chunk
            if self.plan.has_chunk(chunk.index + 1):
                self._pass(chunk, history, remembered=True)
                assert self.memory.selection_of(chunk).history == history

    def _pass(self, chunk, history, *, remembered):
        pass_ = cleaning(chunk) if remembered else denoising(chunk)
        for layer in range(LAYERS):
            keys, values = self._fresh(chunk)
            read = zip(*self.memory.read(pass_, layer, keys, values), strict=True)
            for row, (naive, got) in enumerate(zip(self._naive, read, strict=True)):
                expected = naive.read(pass_, layer, history[row], keys[row], values[row])
                assert all(map(torch.equal, got, expected))
                if remembered:
                    naive.commit(chunk, layer, keys[row], values[row])
            if remembered:
                self.memory.commit(chunk, layer, keys, values)
                keys.zero_()  # whatever is remembered is a copy
                values.zero_()


@settings(max_examples=50)
@given(
    plans(longest=45),
    st.integers(1, 3),
    st.integers(0, 9),
    st.sampled_from((None, Transfer(torch.device("cpu")))),
)
def test_every_row_reads_its_own_memory_and_then_the_chunk(plan, rows, seed, transfer):
    for _ in Pair(plan, rows, seed=seed, transfer=transfer).run(None):
        pass


@settings(max_examples=50)
@given(
    bounded_policies,
    st.integers(1, CHUNK_FRAMES),
    st.tuples(st.integers(20, 45), st.integers(20, 45)),
    st.tuples(st.sampled_from((0, 2)), st.sampled_from((0, 2))),
    st.integers(0, 12),
)
def test_another_plan_is_followed_if_all_is_there(policy, chunk_frames, lengths, lingers, index):
    one, other = (
        Plan(policy, total_frames=frames, chunk_frames=chunk_frames, linger_chunks=linger)
        for frames, linger in zip(lengths, lingers, strict=True)
    )
    pair = Pair(one, rows=2)
    for chunk in pair.run(index + 1):
        if chunk.index == index:
            break  # its clean pass is yet to come
    if pair.memory.follow(other):
        pair.plan = other
        for _ in pair.run(None, first=chunk.index):
            pass
        assert pair.memory.buffer.frames == other.buffer_frames


@pytest.mark.parametrize(
    ("changed", "followed"),
    [
        ({}, True),
        ({"total_frames": 39}, True),
        ({"total_frames": 51}, True),
        ({"total_frames": 21}, False),  # there is no such chunk
        ({"linger_chunks": 2}, False),
        ({"chunk_frames": 4}, False),
    ],
)
def test_what_is_not_there_cannot_be_followed(changed, followed):
    policy = RelaxedMemory(reservoir_frames=12)
    film = {"total_frames": 45, "chunk_frames": 3}
    pair = Pair(Plan(policy, **film), rows=1)
    for chunk in pair.run(8):
        assert pair.memory.follow(pair.plan)
        if chunk.index == 0:  # everything is to come
            assert pair.memory.follow(Plan(policy, **film | {"total_frames": 36}))
            assert pair.memory.follow(pair.plan)
    assert pair.memory.follow(Plan(policy, **film | changed)) == followed


def test_a_scene_that_was_to_end_cannot_go_on():
    policy = RelaxedMemory(reservoir_frames=12)
    pair = Pair(Plan(policy, total_frames=24, chunk_frames=3), rows=1)
    longer = Plan(policy, total_frames=45, chunk_frames=3)
    assert len(list(pair.run(8))) == 8
    assert not pair.memory.follow(longer)


@settings(max_examples=30)
@given(
    plans(longest=45),
    st.integers(1, 2),
    st.sampled_from(("model", "fp8")),
    st.sampled_from((None, Transfer(torch.device("cpu")))),
)
def test_streams_of_one_buffer_read_together_what_each_reads_alone(plan, rows, dtype, transfer):
    tier = {"dtype": dtype, "transfer": transfer}
    alone = [make_memory(plan, rows, **tier) for _ in range(3)]
    buffer = KeyValueBuffer(layers=LAYERS, rows=3 * rows, frames=plan.buffer_frames, rotate=rotate)
    places = [slice(first, first + rows) for first in range(0, 3 * rows, rows)]
    first, *others = together = [Memory(plan, buffer, rows=each, **tier) for each in places]
    assert first.stands_before(others[0]) and not first.stands_before(others[1])
    fresh = KeySource(3 * rows)
    for chunk in plan:
        for layer in range(LAYERS):
            keys, values = fresh(chunk)
            got = first.read(cleaning(chunk), layer, keys, values, *others)
            for memory, part in zip(alone, places, strict=True):
                expected = memory.read(cleaning(chunk), layer, keys[part], values[part])
                assert all(torch.equal(g[part], e) for g, e in zip(got, expected, strict=True))
            if plan.has_chunk(chunk.index + 1):
                first.commit(chunk, layer, keys, values, *others)
                for memory, part in zip(alone, places, strict=True):
                    memory.commit(chunk, layer, keys[part], values[part])
        assert [m.selection for m in together] == [m.selection for m in alone]
    assert sum(m.bytes for m in together) == sum(m.bytes for m in alone)


@settings(max_examples=10)
@given(bounded_policies, st.integers(1, CHUNK_FRAMES))
def test_without_an_end_memory_is_right_and_never_grows(policy, chunk_frames):
    pair = Pair(Plan(policy, total_frames=None, chunk_frames=chunk_frames), rows=1)
    sizes = [pair.memory.bytes for _ in pair.run(40)]
    assert len(set(sizes[20:])) == 1


@dataclass(frozen=True, kw_only=True)
class PartlyRelaxed(RelaxedMemory):
    """History in the last layer only, and no sink while a chunk is remembered."""

    def reads(self, pass_, layer):
        wanted = ("tail",) if pass_.clean else ("sink", "tail")
        return ("sink", "history", "tail") if layer == LAYERS - 1 else wanted


@pytest.mark.parametrize("rope", ["hybrid", "absolute"])
def test_a_pass_may_read_some_roles_in_some_layers(rope):
    plan = Plan(PartlyRelaxed(reservoir_frames=24, rope=rope), total_frames=40, chunk_frames=3)
    for _ in Pair(plan, rows=2).run(None):
        pass


def test_each_row_chooses_for_itself():
    """Row 0 turns away from its sink steadily, row 1 turns back to it."""
    policy = RelaxedMemory(redundancy_weight=0.0)
    plan = Plan(policy, total_frames=60, chunk_frames=3)
    memory = make_memory(plan, rows=2)

    def keys(chunk):
        angles = [[f / 60, 0.0 if f < 2 else 1 - f / 60] for f in chunk.frames]
        directions = torch.tensor([[[math.cos(a), math.sin(a), 0, 0] for a in r] for r in angles])
        per_frame = directions.transpose(0, 1).repeat_interleave(TOKENS, dim=1)
        return [per_frame.unsqueeze(2).expand(-1, -1, HEADS, -1)] * 2

    for chunk in itertools.islice(plan, plan.chunk_count - 1):
        if chunk.roles.has_choice:
            candidates = chunk.roles.candidates
            assert memory.selection.history == (candidates[:1], candidates[-1:])
            assert [len(row) for row in memory.selection.scores] == [len(candidates)] * 2
        remember(memory, chunk, keys)


def test_fp8_changes_nothing_but_history():
    policy = RelaxedMemory(tail_frames=4, reservoir_frames=40)
    plan = Plan(policy, total_frames=90, chunk_frames=3)
    exact, small = make_memory(plan, 2), make_memory(plan, 2, dtype="fp8")
    before, after = 2 * TOKENS, 3 * TOKENS
    errors = []
    for chunk in itertools.islice(plan, plan.chunk_count - 1):
        for layer in range(LAYERS):
            keys, values = KeySource(2, chunk.index)(chunk)
            reads = [
                memory.read(denoising(chunk), layer, keys, values) for memory in (exact, small)
            ]
            for mine, other in zip(*reads, strict=True):
                assert torch.equal(mine[:, :before], other[:, :before])
                assert torch.equal(mine[:, after:], other[:, after:])
                errors.append((mine - other).abs().max() / mine.abs().max())
            for memory in (exact, small):
                memory.commit(chunk, layer, keys, values)
        assert exact.selection == small.selection
    assert 0 < max(errors) < 2**-4


@pytest.mark.parametrize(
    "policy",
    [
        RelaxedMemory(reservoir_frames=40),
        RelaxedMemory(sink_frames=0, tail_frames=5, reservoir_frames=40),
        RelaxedMemory(history_frames=0, history_candidates=0),
        WindowMemory(sink_frames=1, window_frames=7),
    ],
)
def test_a_frame_is_stored_only_if_a_later_chunk_than_the_next_reads_it(policy, monkeypatch):
    stored = Counter()
    store = Bank.store

    def counting(bank, layer, frames, *copies):
        stored.update((layer, frame) for frame in frames)
        store(bank, layer, frames, *copies)

    monkeypatch.setattr(Bank, "store", counting)
    plan = Plan(policy, total_frames=90, chunk_frames=3)
    memory = make_memory(plan, rows=1)
    for chunk in itertools.islice(plan, plan.chunk_count - 1):
        remember(memory, chunk, KeySource(1))
        held = memory.frames
        assert all(plan.last_reader(frame) >= chunk.index + 2 for frame in held)
        assert len(held) <= plan.peak_frames(ahead_chunks=2)
    wanted = [f for f in range(90) if plan.last_reader(f) >= plan.chunk_of(f) + 2]
    assert stored.keys() == set(itertools.product(range(LAYERS), wanted))
    once_as_tail_once_as_candidate = 2 if len(plan.chunk(20).roles.tail) > plan.chunk_frames else 1
    assert max(stored.values(), default=0) <= once_as_tail_once_as_candidate


def test_a_stream_that_missed_a_clean_pass_is_refused():
    plan = Plan(RelaxedMemory(), total_frames=30, chunk_frames=3)
    keys, values = KeySource(1)(plan.chunk(0))
    memory = make_memory(plan, rows=1)
    remember(memory, plan.chunk(0), KeySource(1))
    memory.read(denoising(plan.chunk(1)), 0, keys, values)
    with pytest.raises(
        RuntimeError, match="memory for chunk 2, but what it remembers ends with chunk 0"
    ):
        memory.read(denoising(plan.chunk(2)), 0, keys, values)


def test_a_chunk_that_is_remembered_twice_is_refused():
    plan = Plan(RelaxedMemory(), total_frames=30, chunk_frames=3)
    memory = make_memory(plan, rows=1)
    remember(memory, plan.chunk(0), KeySource(1))
    with pytest.raises(
        RuntimeError,
        match="Layer 0 reads memory for chunk 0, but what it remembers ends with chunk 0",
    ):
        remember(memory, plan.chunk(0), KeySource(1))


def test_without_layer_0_nothing_is_remembered_wrongly():
    plan = Plan(RelaxedMemory(), total_frames=30, chunk_frames=3)
    memory = make_memory(plan, rows=1)
    with pytest.raises(RuntimeError, match="Layer 0 is left out while chunk 0"):
        memory.commit(plan.chunk(0), 1, *KeySource(1)(plan.chunk(0)))


def test_a_stream_that_appears_late_is_refused():
    plan = Plan(RelaxedMemory(), total_frames=30, chunk_frames=3)
    memory = make_memory(plan, rows=1)
    with pytest.raises(
        RuntimeError, match="memory for chunk 2, but what it remembers ends with chunk -1"
    ):
        memory.read(denoising(plan.chunk(2)), 0, *KeySource(1)(plan.chunk(2)))
