"""Random policies and plans, small enough that every regime is met within some dozen frames."""

from hypothesis import strategies as st

from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory, WindowMemory

CHUNK_FRAMES = 5
ROPES = st.sampled_from(("hybrid", "absolute"))


@st.composite
def relaxed_policies(draw):
    """Any settings whose reservoir holds the memory and a chunk of `CHUNK_FRAMES`."""
    sink, tail = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    candidates = draw(st.sampled_from((4, 1, 2, 3, 5, 6, 0)))
    history = min(candidates, draw(st.sampled_from((1, 2, 3, 0))))
    smallest = sink + history + tail + CHUNK_FRAMES
    return RelaxedMemory(
        sink_frames=sink,
        history_frames=history,
        tail_frames=tail,
        history_candidates=candidates,
        redundancy_weight=draw(st.just(0.0) | st.floats(1e-3, 4)),  # less is lost in rounding
        reservoir_frames=draw(st.integers(smallest, smallest + 40)),
        rope=draw(ROPES),
    )


def window_policies(shortest=0):
    """Sinks and a window of `shortest` frames or more; a window of 0 is unlimited."""
    return st.builds(
        WindowMemory,
        sink_frames=st.integers(0, 6),
        window_frames=st.integers(shortest, 12),
        rope=ROPES,
    )


policies = st.one_of(relaxed_policies(), window_policies())
bounded_policies = st.one_of(relaxed_policies(), window_policies(shortest=1))


@st.composite
def plans(draw, policies=policies, longest=60):
    """Any plan with an end, `longest` frames after its prefix at most."""
    prefix = draw(st.integers(0, 12))
    return Plan(
        draw(policies),
        total_frames=prefix + longest - draw(st.integers(0, longest - 1)),
        chunk_frames=draw(st.integers(1, CHUNK_FRAMES)),
        prefix_frames=prefix,
        whole_chunks=draw(st.booleans()),
    )
