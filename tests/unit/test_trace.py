"""A trace is plain, frozen data, and refuses what no rollout can produce."""

import dataclasses

import pytest

from relax_memory.trace import ChunkTrace, Trace

DENSE = ChunkTrace(
    index=0,
    frames=(0, 1, 2),
    given=False,
    sink=(),
    candidates=(),
    tail=(),
    history=((), ()),
    scores=(),
    seconds=1.0,
)
RELAXED = ChunkTrace(
    index=1,
    frames=(3, 4, 5),
    given=False,
    sink=(0,),
    candidates=(1,),
    tail=(2,),
    history=((1,), (1,)),
    scores=((0.5,), ()),
    seconds=1.0,
)
ROWS = ("positive 0", "negative 0")


def test_a_trace_is_frozen_and_compares_by_content():
    trace = Trace(chunks=(DENSE, RELAXED), rows=ROWS)
    assert trace == Trace(chunks=(DENSE, RELAXED), rows=ROWS, fps=16.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.fps = 8.0


def test_a_score_may_be_nan():
    dataclasses.replace(RELAXED, scores=((float("nan"),), (0.0,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": -1}, "numbered from 0"),
        ({"frames": ()}, "consecutive"),
        ({"frames": (3, 5)}, "consecutive"),
        ({"sink": (1, 0)}, "sink must be in temporal order"),
        ({"tail": (3,)}, "tail must lie before frame 3"),
        ({"candidates": (-1,)}, "candidates must lie before"),
        ({"history": ((1,), (4,))}, "history of row 1 must lie before"),
        ({"scores": ((0.5,),)}, "1 rows of scores for 2"),
        ({"scores": ((0.5, 0.1), ())}, "2 scores for 1 candidates"),
        ({"seconds": -0.1}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"scene": -1}, "scenes are numbered from 0, got -1"),
        ({"scene_frame": 4}, "frame 3 of the video cannot be frame 4 of a scene"),
        ({"scene_frame": -1}, "frame -1 of a scene"),
    ],
)
def test_a_chunk_refuses_impossible_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RELAXED, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 0.0}, "fps"),
        ({"chunks": (RELAXED,)}, "chunk 0 must start at frame 0"),
        ({"chunks": (DENSE, dataclasses.replace(RELAXED, frames=(4, 5)))}, "must start at frame 3"),
        ({"rows": ("positive 0",)}, "2 rows of history"),
    ],
)
def test_a_trace_refuses_gaps_and_missing_rows(change, message):
    with pytest.raises(ValueError, match=message):
        Trace(**{"chunks": (DENSE, RELAXED), "rows": ROWS, **change})
