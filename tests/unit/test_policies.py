"""Policies against a list from which frames really leave, one by one."""

import re

import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from unit.strategies import CHUNK_FRAMES, relaxed_policies, window_policies

from relax_memory.policies import Policy, RelaxedMemory, WindowMemory
from relax_memory.roles import Roles

lengths = st.lists(st.integers(1, CHUNK_FRAMES), min_size=20, max_size=30)


def cached_frames(policy, lengths):
    """Frames in the reservoir at the start of each chunk."""
    cached, first = [], 0
    for length in lengths:
        while len(cached) + length > policy.reservoir_frames:
            del cached[policy.sink_frames]
        yield tuple(cached)
        cached += range(first, first + length)
        first += length


def literal_roles(policy, cached):
    """Section 2 of the design, for more cached frames than are all read."""
    middle_end = len(cached) - policy.tail_frames
    middle = cached[policy.sink_frames : middle_end]
    first = len(middle) // 2
    count = min(policy.history_candidates, len(middle) - first)
    if count == 1:
        places = [first]
    else:
        spread = torch.linspace(first, len(middle) - 1, count + 1, dtype=torch.float32)
        places = sorted({int(x) for x in spread.tolist()})[:-1]
    if policy.history_frames == 0:
        places = []
    return Roles(
        sink=cached[: policy.sink_frames],
        candidates=tuple(middle[i] for i in places),
        tail=cached[middle_end:],
        history_frames=min(policy.history_frames, len(places)),
    )


@given(relaxed_policies(), lengths)
def test_relaxed_roles_are_those_of_a_literal_reservoir(policy, lengths):
    first = 0
    for cached, length in zip(cached_frames(policy, lengths), lengths, strict=True):
        roles = policy.roles(first, length)
        if len(cached) <= policy.sink_frames + 1 + policy.tail_frames:
            assert roles.attended(roles.candidates) == cached
            assert not roles.has_choice
        else:
            assert roles == literal_roles(policy, cached)
        first += length


@given(relaxed_policies(), lengths)
def test_nothing_but_sinks_is_read_from_beyond_the_reach(policy, lengths):
    past_frames = sum(lengths)
    roles = policy.roles(past_frames, 1)
    recent = [f for f in roles.readable if f >= policy.sink_frames]
    assert all(f >= past_frames - policy.reach_frames for f in recent)


@pytest.mark.parametrize("past_frames", [117, 120, 237, 3000])
def test_steady_state_candidates_lie_58_44_30_and_16_frames_back(past_frames):
    roles = RelaxedMemory().roles(past_frames, 3)
    assert roles.sink == (0, 1)
    assert [past_frames - frame for frame in roles.candidates] == [58, 44, 30, 16]
    assert roles.tail == (past_frames - 1,)


def test_a_changed_default_dtype_changes_no_candidate():
    policy = RelaxedMemory(reservoir_frames=2000)
    torch.set_default_dtype(torch.bfloat16)
    try:
        roles = policy.roles(997, 3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert roles == literal_roles(policy, tuple(range(997)))


REGIMES = {
    "start": ({}, 0, Roles()),
    "fewer frames than sinks": ({}, 1, Roles(sink=(0,))),
    "all read": ({}, 4, Roles(sink=(0, 1), candidates=(2,), tail=(3,), history_frames=1)),
    "all read, though no history is wanted": (
        {"history_frames": 0},
        4,
        Roles(sink=(0, 1), candidates=(2,), tail=(3,), history_frames=1),
    ),
    "one candidate of two": (
        {},
        5,
        Roles(sink=(0, 1), candidates=(3,), tail=(4,), history_frames=1),
    ),
    "repeated candidates": (
        {},
        8,
        Roles(sink=(0, 1), candidates=(4, 5), tail=(7,), history_frames=1),
    ),
    "less history than asked for": (
        {"history_frames": 3},
        8,
        Roles(sink=(0, 1), candidates=(4, 5), tail=(7,), history_frames=2),
    ),
    "no history": ({"history_frames": 0}, 50, Roles(sink=(0, 1), tail=(49,))),
    "no sink": (
        {"sink_frames": 0, "history_candidates": 2},
        21,
        Roles(candidates=(10, 14), tail=(20,), history_frames=1),
    ),
    "no tail": (
        {"tail_frames": 0, "history_candidates": 2},
        22,
        Roles(sink=(0, 1), candidates=(12, 16), history_frames=1),
    ),
    "eviction": (
        {"reservoir_frames": 13, "history_candidates": 2},
        103,
        Roles(sink=(0, 1), candidates=(98, 99), tail=(102,), history_frames=1),
    ),
}


@pytest.mark.parametrize(("settings", "past_frames", "roles"), REGIMES.values(), ids=REGIMES)
def test_each_regime_reads_these_frames(settings, past_frames, roles):
    assert RelaxedMemory(**settings).roles(past_frames, 3) == roles


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sink_frames": -1}, "sink_frames is -1"),
        ({"history_frames": -2}, "history_frames is -2"),
        ({"tail_frames": -1}, "tail_frames is -1"),
        ({"history_candidates": -4}, "history_candidates is -4"),
        ({"history_frames": 5}, "history_frames is 5 but history_candidates is 4"),
        ({"redundancy_weight": float("nan")}, "redundancy_weight is nan"),
        ({"rope": "learned"}, 'rope is "learned"'),
        ({"reservoir_frames": 4}, "reservoir_frames is 4, but .* need 5"),
    ],
)
def test_relaxed_memory_refuses_settings_by_name_and_value(wrong, message):
    with pytest.raises(ValueError, match=message):
        RelaxedMemory(**wrong)


def test_a_chunk_that_does_not_fit_the_reservoir_is_refused():
    policy = RelaxedMemory(reservoir_frames=7)
    policy.roles(0, 3)
    with pytest.raises(ValueError, match="reservoir_frames is 7, .* a chunk of 4 need 8"):
        policy.roles(0, 4)


@given(window_policies(), st.integers(0, 40))
def test_a_window_reads_the_first_and_the_newest_frames(policy, past_frames):
    roles = policy.roles(past_frames, 3)
    sinks = set(range(policy.sink_frames))
    oldest = past_frames - policy.window_frames if policy.window_frames else 0
    expected = tuple(f for f in range(past_frames) if f in sinks or f >= oldest)
    assert roles.attended(()) == expected
    assert set(roles.sink) <= sinks


def test_a_window_drops_the_middle():
    roles = WindowMemory(sink_frames=1, window_frames=2).roles(6, 3)
    assert roles == Roles(sink=(0,), tail=(4, 5))


def test_an_unlimited_window_reads_everything():
    policy = WindowMemory(window_frames=0)
    assert policy.roles(500, 3).readable == tuple(range(500))
    assert policy.reach_frames is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sink_frames": -1}, "sink_frames is -1"),
        ({"window_frames": -3}, "window_frames is -3"),
        ({"rope": ""}, 'rope is ""'),
    ],
)
def test_window_memory_refuses_settings_by_name_and_value(wrong, message):
    with pytest.raises(ValueError, match=message):
        WindowMemory(**wrong)


@pytest.mark.parametrize("policy", [RelaxedMemory, WindowMemory])
def test_every_policy_works_with_its_defaults(policy):
    assert policy().roles(0, 3) == Roles()


past = st.sets(st.integers(0, 1000), max_size=12).map(lambda frames: tuple(sorted(frames)))


@given(past, st.integers(1001, 2000))
def test_hybrid_memory_ends_right_before_the_chunk(frames, first_frame):
    times = RelaxedMemory(rope="hybrid").times(frames, first_frame)
    assert list(times) == [i - len(frames) for i in range(len(frames))]


@given(past, st.integers(1001, 2000))
def test_absolute_memory_keeps_its_true_distance(frames, first_frame):
    times = RelaxedMemory(rope="absolute").times(frames, first_frame)
    assert [first_frame + time for time in times] == list(frames)


@given(st.integers(1, 20), st.integers(0, 100))
def test_the_modes_agree_on_the_newest_frames(count, oldest):
    frames, first_frame = tuple(range(oldest, oldest + count)), oldest + count
    policies = (RelaxedMemory(rope=mode) for mode in ("hybrid", "absolute"))
    hybrid, absolute = (policy.times(frames, first_frame) for policy in policies)
    assert hybrid == absolute


def test_nothing_asks_which_policy_it_has():
    kinds = "|".join(kind.__name__ for kind in (Policy, *Policy.__subclasses__()))
    for path in (
        path for name in ("relax_memory", "nodes") for path in ROOT.glob(f"{name}/**/*.py")
    ):
        assert not re.search(rf"isinstance\([^)]*\b({kinds})\b", path.read_text("utf-8")), path
