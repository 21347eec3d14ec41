"""The plan against a brute force over all its chunks."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.strategies import CHUNK_FRAMES, bounded_policies, plans

from relax_memory.passes import Chunk
from relax_memory.plan import NEVER, Plan
from relax_memory.policies import RelaxedMemory, WindowMemory


def paper_plan(total_frames, **changes):
    return Plan(RelaxedMemory(), total_frames=total_frames, chunk_frames=3, **changes)


def readers(plan, frame):
    return [chunk.index for chunk in plan if frame in chunk.roles.readable]


@given(plans())
def test_chunks_follow_one_another_and_cover_the_video(plan):
    chunks = list(plan)
    frames = [frame for chunk in chunks for frame in chunk.frames]
    assert frames == list(range(len(frames)))
    assert plan.total_frames <= len(frames) < plan.total_frames + plan.chunk_frames
    assert [chunk.index for chunk in chunks] == list(range(plan.chunk_count))
    assert all(plan.chunk(chunk.index) == chunk for chunk in chunks)
    assert all(plan.chunk_of(frame) == chunk.index for chunk in chunks for frame in chunk.frames)
    assert [index for index in range(99) if plan.has_chunk(index)] == list(range(len(chunks)))


@given(plans())
def test_a_chunk_may_read_what_the_policy_says_and_only_the_past(plan):
    for chunk in plan:
        assert chunk.roles == plan.policy.roles(chunk.first_frame, chunk.length_frames)
        assert all(frame < chunk.first_frame for frame in chunk.roles.readable)


@given(plans())
def test_a_prefix_is_its_remainder_and_then_whole_chunks(plan):
    given = [chunk for chunk in plan if chunk.given]
    lengths = [chunk.length_frames for chunk in given]
    whole, remainder = divmod(plan.prefix_frames, plan.chunk_frames)
    assert lengths == [remainder] * bool(remainder) + [plan.chunk_frames] * whole
    assert [chunk.index for chunk in given] == list(range(len(given)))


def test_the_last_chunk_is_whole_or_cut():
    assert list(paper_plan(7))[-1].frames == (6, 7, 8)
    assert list(paper_plan(7, whole_chunks=False))[-1].frames == (6,)
    assert list(paper_plan(9, whole_chunks=False))[-1].frames == (6, 7, 8)


@given(plans())
def test_the_last_reader_is_that_of_a_search_through_all_chunks(plan):
    for frame in range(plan.total_frames):
        assert plan.last_reader(frame) == max(readers(plan, frame), default=NEVER)


@given(plans(longest=40), st.integers(0, 3))
def test_the_peak_is_that_of_a_search_through_all_chunks(plan, ahead_chunks):
    chunks = list(plan)

    def kept_frames(chunk):
        """Frames before `chunk` (its own too, when it is committed) with a reader yet to come."""
        end = chunk.first_frame + (chunk.length_frames if ahead_chunks else 0)
        later = [c.roles.readable for c in chunks[chunk.index + ahead_chunks :]]
        return {f for f in itertools.chain(*later) if f < end}

    assert plan.peak_frames(ahead_chunks) == max(len(kept_frames(chunk)) for chunk in chunks)


@given(plans(longest=40), st.integers(1, 60), st.sampled_from((0, 2)))
def test_a_scene_that_may_get_longer_keeps_what_it_would_read_then(plan, more_frames, linger):
    settings = {"prefix_frames": plan.prefix_frames, "linger_chunks": linger}
    frames = plan.total_frames + more_frames
    scene, longer = (
        Plan(plan.policy, total_frames=total, chunk_frames=plan.chunk_frames, **told, **settings)
        for total, told in ((plan.total_frames, {"most_frames": frames}), (frames, {}))
    )
    assert list(scene) == list(longer)[: scene.chunk_count]
    most = 0
    for chunk in scene:
        for frame in range(chunk.first_frame):
            for kept in ("stays_after", "is_certain_after"):
                told = [getattr(each, kept)(frame, chunk.index) for each in (scene, longer)]
                assert told[0] == told[1]
        past = range(chunk.first_frame + chunk.length_frames)
        most = max(most, sum(scene.stays_after(frame, chunk.index + 1) for frame in past))
    assert most == scene.peak_frames(2)


@given(plans())
def test_the_buffer_holds_the_largest_chunk_with_its_memory(plan):
    sizes = [len(c.roles.attended(c.roles.candidates[: c.roles.history_frames])) for c in plan]
    lengths = [chunk.length_frames for chunk in plan]
    assert plan.buffer_frames == max(map(sum, zip(sizes, lengths, strict=True)))


@pytest.mark.parametrize(
    ("total_frames", "peak_frames"), [(42, 13), (120, 36), (240, 47), (2400, 47), (None, 47)]
)
def test_the_paper_s_settings_keep_at_most_47_past_frames(total_frames, peak_frames):
    assert paper_plan(total_frames).peak_frames(0) == peak_frames


def sinks_of(policy):
    """The frames that a policy with a limit always reads."""
    return policy.roles(2 * policy.reach_frames + 20, 1).sink


@given(
    bounded_policies,
    st.integers(1, CHUNK_FRAMES),
    st.integers(0, 12),
)
def test_without_an_end_a_plan_agrees_with_a_very_long_one(policy, chunk_frames, prefix_frames):
    sizes = {"chunk_frames": chunk_frames, "prefix_frames": prefix_frames}
    endless = Plan(policy, total_frames=None, **sizes)
    long = Plan(policy, total_frames=5 * (policy.reach_frames + 20), **sizes)
    for chunk in itertools.islice(endless, min(30, long.chunk_count)):
        assert chunk == long.chunk(chunk.index)
    always_read = sinks_of(policy)
    for frame in range(2 * policy.reach_frames):
        if frame not in always_read:
            assert endless.last_reader(frame) == long.last_reader(frame)
    for ahead_chunks in range(3):
        assert endless.peak_frames(ahead_chunks) == long.peak_frames(ahead_chunks)
    assert endless.buffer_frames == long.buffer_frames
    assert endless.chunk_count is None
    assert endless.has_chunk(10**9)


@given(bounded_policies, st.integers(1, CHUNK_FRAMES))
def test_without_an_end_a_sink_always_has_a_reader_to_come(policy, chunk_frames):
    plan = Plan(policy, total_frames=None, chunk_frames=chunk_frames)
    for chunk in itertools.islice(plan, 40):
        sinks = [f for f in sinks_of(policy) if f < chunk.first_frame]
        assert all(plan.last_reader(sink) > chunk.index for sink in sinks)
        for frame in chunk.frames:
            plan.last_reader(frame)


def test_an_unlimited_window_needs_an_end():
    plan = Plan(WindowMemory(window_frames=0), total_frames=None, chunk_frames=3)
    with pytest.raises(ValueError, match="unlimited window"):
        plan.peak_frames(2)


class CountingPolicy:
    """A policy that counts how often it is asked."""

    def __init__(self, policy):
        self._policy = policy
        self.reach_frames = policy.reach_frames
        self.asked = 0

    def roles(self, past_frames, chunk_frames):
        self.asked += 1
        return self._policy.roles(past_frames, chunk_frames)


@pytest.mark.parametrize("total_frames", [15_000, None])
def test_chunk_5000_costs_no_more_than_the_first(total_frames):
    policy = CountingPolicy(RelaxedMemory())
    plan = Plan(policy, total_frames=total_frames, chunk_frames=3)
    plan.last_reader(0)
    for chunk in itertools.islice(plan, 5_000):
        before = policy.asked
        plan.chunk(chunk.index)
        for frame in chunk.frames:
            plan.last_reader(frame)
        assert policy.asked - before <= 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"chunk_frames": 0}, "frames_per_chunk is 0"),
        ({"chunk_frames": 117}, "reservoir_frames is 120, .* a chunk of 117 need 121"),
    ],
)
def test_impossible_plans_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Plan(RelaxedMemory(), **{"total_frames": 240, "chunk_frames": 3} | wrong)


def test_a_chunk_knows_its_frames():
    chunk = paper_plan(240).chunk(2)
    assert chunk == Chunk(
        index=2,
        first_frame=6,
        length_frames=3,
        given=False,
        roles=RelaxedMemory().roles(6, 3),
    )
    assert chunk.frames == (6, 7, 8)


def test_no_chunk_beyond_the_video():
    plan = Plan(RelaxedMemory(), total_frames=7, chunk_frames=3, whole_chunks=False)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"no chunk {index}"):
            plan.chunk(index)


@pytest.mark.parametrize(("chunk_frames", "tail_frames"), [(3, 4), (3, 6), (1, 2)])
def test_a_frame_is_certain_only_while_it_is_tail(chunk_frames, tail_frames):
    policy = RelaxedMemory(tail_frames=tail_frames)
    plan = Plan(policy, total_frames=240, chunk_frames=chunk_frames)
    certain = plan.peak_frames(ahead_chunks=2, certain=True)
    assert certain == policy.sink_frames + max(0, tail_frames - chunk_frames)
    assert certain + plan.peak_frames(ahead_chunks=2, certain=False) >= plan.peak_frames(
        ahead_chunks=2
    )
