"""Memory stands at negative times, near in hybrid mode and at its true distance otherwise."""

from hypothesis import given
from hypothesis import strategies as st

from relax_memory.rope import memory_times

past = st.sets(st.integers(0, 1000), max_size=12).map(lambda frames: tuple(sorted(frames)))


@given(past, st.integers(1001, 2000))
def test_hybrid_memory_ends_right_before_the_chunk(frames, first_frame):
    times = memory_times(frames, first_frame, "hybrid")
    assert list(times) == [i - len(frames) for i in range(len(frames))]


@given(past, st.integers(1001, 2000))
def test_absolute_memory_keeps_its_true_distance(frames, first_frame):
    times = memory_times(frames, first_frame, "absolute")
    assert [first_frame + time for time in times] == list(frames)


@given(st.integers(1, 20), st.integers(0, 100))
def test_the_modes_agree_on_the_newest_frames(count, oldest):
    frames, first_frame = tuple(range(oldest, oldest + count)), oldest + count
    hybrid, absolute = (memory_times(frames, first_frame, mode) for mode in ("hybrid", "absolute"))
    assert hybrid == absolute
