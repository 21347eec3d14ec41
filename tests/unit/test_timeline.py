"""The timeline shows each role where it belongs, at any length, and never fails on odd data."""

import dataclasses
import hashlib
import math
import random

import numpy as np
import pytest

from relax_memory.direction.shots import Shot
from relax_memory.picture import chart, film, strips, timeline
from relax_memory.picture.timeline import draw_plan, draw_timeline
from relax_memory.policies import RelaxedMemory, WindowMemory
from relax_memory.storyboard import Storyboard
from relax_memory.trace import ChunkTrace, Trace


def plan(chunks=80, *, policy=None, prefix_frames=0, chunk_frames=3):
    total_frames = prefix_frames + chunks * chunk_frames
    sizes = {"chunk_frames": chunk_frames, "prefix_frames": prefix_frames}
    return Storyboard(policy or RelaxedMemory(), total_frames=total_frames, **sizes)


def trace_of(plan, *, rows=1, score=None, seconds=2.5):
    """A trace in which scores are random or all the same."""
    dice = random.Random(0)
    chunks = []
    for chunk in plan:
        roles, history, scores = chunk.roles, [], []
        for _ in range(rows):
            row = [dice.gauss(-1, 0.3) if score is None else score for _ in roles.candidates]
            best = sorted(roles.candidates, key=dict(zip(roles.candidates, row)).get)  # noqa: B905
            history.append(tuple(sorted(best[len(best) - roles.history_frames :])))
            scores.append(tuple(row) if roles.has_choice else ())
        chunks.append(
            ChunkTrace(
                index=chunk.index,
                frames=chunk.frames,
                given=chunk.given,
                sink=roles.sink,
                candidates=roles.candidates,
                tail=roles.tail,
                history=tuple(history),
                scores=tuple(scores),
                seconds=seconds,
            )
        )
    return Trace(chunks=tuple(chunks), rows=tuple(f"positive {row}" for row in range(rows)))


def choose(trace, index, rank):
    """The trace with the candidate `rank` as the history of one chunk."""
    chunk = trace.chunks[index]
    chunk = dataclasses.replace(chunk, history=((chunk.candidates[rank],),))
    chunks = (*trace.chunks[:index], chunk, *trace.chunks[index + 1 :])
    return dataclasses.replace(trace, chunks=chunks)


def has(picture, colour):
    return (picture == colour).all(-1).any()


@pytest.mark.parametrize(
    "trace",
    [
        trace_of(plan(1)),
        trace_of(plan(1, chunk_frames=1), seconds=0.0),
        trace_of(plan(7)),
        trace_of(plan(240, chunk_frames=1)),
        trace_of(plan(), score=0.5),
        trace_of(plan(), score=math.inf),
        trace_of(plan(), rows=2),
        trace_of(plan(), rows=7),
        trace_of(plan(5, prefix_frames=1)),
        trace_of(plan(40, prefix_frames=22)),
        trace_of(plan(policy=WindowMemory(sink_frames=1))),
        trace_of(plan(policy=WindowMemory(window_frames=0))),
        trace_of(plan(policy=RelaxedMemory(sink_frames=0, history_frames=0, tail_frames=0))),
        trace_of(plan(policy=RelaxedMemory(history_frames=4, tail_frames=9))),
        trace_of(plan(policy=RelaxedMemory(history_candidates=40))),
    ],
    ids=lambda trace: f"{len(trace.chunks)}-chunks",
)
def test_every_trace_is_a_picture_of_one_width(trace):
    picture = draw_timeline(trace)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (chart.WIDTH, 3)
    assert picture[-1].min() == 255, "nothing is cut off at the lower edge"
    assert picture[:, -8:].min() == 255, "nothing is cut off at the right edge"
    assert picture[:, :8].min() == 255, "nothing is cut off at the left edge"


def test_the_picture_is_as_large_for_800_chunks_as_for_80():
    assert draw_timeline(trace_of(plan(800))).shape == draw_timeline(trace_of(plan(80))).shape


def test_one_choice_among_800_chunks_can_be_seen():
    trace = trace_of(plan(800), score=-1.0)
    changed = draw_timeline(choose(trace, 500, 0)) != draw_timeline(choose(trace, 500, 3))
    rows, columns = np.nonzero(changed[:, : chart.LEFT + chart.PLOT].any(-1))
    assert len(set(columns)) >= 2
    assert np.ptp(columns) <= 3
    middle = (columns.min() + columns.max()) / 2 - chart.LEFT
    assert middle / chart.PLOT == pytest.approx(500.5 / 800, abs=0.001)
    assert np.ptp(rows) > 300, "two lanes change, far apart"


def test_every_role_has_its_colour():
    picture = draw_timeline(trace_of(plan(40, prefix_frames=22)))
    for colour in (timeline.GIVEN, timeline.NOW, timeline.SINK, strips.TAIL, strips.HISTORY):
        assert has(picture, colour)


def test_a_window_has_no_history_and_no_sinks():
    picture = draw_timeline(trace_of(plan(policy=WindowMemory())))
    assert has(picture, strips.TAIL)
    assert not has(picture, strips.HISTORY)
    assert not has(picture, timeline.SINK)


def test_history_is_thick_and_other_candidates_are_thin():
    trace = choose(trace_of(plan(80), score=-1.0), 79, 1)
    page = chart.Chart(240, 16.0)
    strip = strips.Lanes(height=480, oldest=58).strip(
        page, trace, 0, scores=strips.ScoreColours.of(trace)
    )
    drawn = (strip[:, 239] == strips.SCORES[22]).all(-1)
    edges = np.flatnonzero(np.diff(drawn.astype(int)))
    tops, thickness = edges[::2], np.diff(edges)[::2]
    assert list(thickness) == [strips.THIN, strips.THIN, strips.THICK, strips.THIN]
    ages = (tops + thickness / 2 - 7) / (480 - 14) * 57 + 1
    assert ages == pytest.approx([16, 30, 44, 58], abs=0.3)


def test_shares_count_the_chunks_whose_lanes_are_level():
    trace = choose(trace_of(plan(80), score=-1.0), 79, 0)
    page = chart.Chart(240, 16.0)
    tail, *history = timeline._lane_labels(page, trace.chunks, 0)
    assert tail == (1.0, "tail: 1 frame", strips.TAIL)
    level = sum(timeline._ages(chunk) == (58, 44, 30, 16) for chunk in trace.chunks)
    assert [label[1] for label in history] == [
        f"14.5 s (58 frames) ago, read {1 / level:.0%}",
        "11 s (44 frames) ago, read 0%",
        "7.5 s (30 frames) ago, read 0%",
        f"4 s (16 frames) ago, read {(level - 1) / level:.0%}",
    ]
    short = trace_of(plan(7))
    *_, label = timeline._lane_labels(page, short.chunks, 0)
    assert label[1] == "1 s (4 frames) ago", "no share of a single chunk"


def test_a_high_score_is_dark_and_a_missing_one_is_grey():
    colours = strips.ScoreColours(-2.0, 1.0)
    assert [sum(colours(score)) for score in (-2.0, -1.0, 0.0, 1.0)] == sorted(
        (sum(colours(score)) for score in (-2.0, -1.0, 0.0, 1.0)), reverse=True
    )
    assert colours(math.nan) == strips.NO_SCORE
    assert has(draw_timeline(trace_of(plan(), score=math.nan)), strips.NO_SCORE)


def test_rows_beyond_the_fourth_add_no_height():
    four, seven = (draw_timeline(trace_of(plan(12), rows=rows)) for rows in (4, 7))
    assert four.shape == seven.shape


def test_the_plan_shows_candidates_and_no_choice():
    picture = draw_plan(plan(80))
    assert picture.shape[1:] == (chart.WIDTH, 3)
    assert has(picture, strips.HISTORY)
    assert not has(picture, strips.SCORES[-1])


def test_a_trace_without_chunks_is_refused():
    with pytest.raises(ValueError, match="no chunks"):
        draw_timeline(Trace(chunks=(), rows=()))


@pytest.mark.parametrize("span", [0.06, 0.6, 5.1, 59.8, 599.8, 3600.0, 62_500.0])
def test_moments_are_round_few_and_inside(span):
    moments = chart.ticks(span, 12, least=0.25)
    assert moments[0] == 0
    assert len(moments) <= 13
    assert max(moments) <= span


def test_times_read_as_in_a_player():
    assert [chart.clock(seconds) for seconds in (0, 9, 600, 3723)] == [
        "0:00",
        "0:09",
        "10:00",
        "1:02:03",
    ]
    assert [chart.duration(seconds) for seconds in (7.5, 14.75, 119, 600)] == [
        "7.5 s",
        "14.75 s",
        "119 s",
        "10:00",
    ]


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (-1.0, 0.25, ("-1", "0.25")),
        (-0.99991, -0.9998, ("-0.9999", "-0.9998")),
        (-1.0, -1.0, ("-1", "-1")),
    ],
)
def test_the_ends_of_the_scores_differ_if_the_scores_do(low, high, texts):
    assert timeline._told_apart(low, high) == texts


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("positive 0", "video 1"),
        ("negative 1", "video 2, negative prompt"),
        ("other 2", "video 3, other prompt"),
        ("plan", "plan"),
    ],
)
def test_rows_are_called_as_people_count(row, name):
    assert timeline._row_name(row) == name


def test_scores_that_hardly_differ_have_one_shade():
    near, far = strips.ScoreColours(-1.0, -0.995), strips.ScoreColours(-1.0, -0.9)
    assert near(-1.0) == near(-0.995)
    assert far(-1.0) != far(-0.9)


def test_on_a_dark_canvas_nothing_glares_and_hues_stay():
    picture = draw_timeline(trace_of(plan()))
    dark = timeline.on_dark(picture)
    assert dark[picture.min(-1) == 255].max() < 40
    coloured = np.ptp(picture.astype(int), axis=-1) > 60
    assert (dark[coloured].argmax(-1) == picture[coloured].argmax(-1)).mean() > 0.99


def shot(first_chunk, prompt=0, scene=0, transition="keep", **rest):
    return Shot(first_chunk=first_chunk, prompt=prompt, scene=scene, transition=transition, **rest)


WORDS = ("a red circle", "two men argue", "she leaves", "the circle again")
STORY = (
    shot(0),
    shot(20, 1, 1, "cut"),
    shot(45, 2, 1),
    shot(55, 3, 0, "return", moment=70),
)


def board(shots=STORY, chunks=80):
    sizes = {"total_frames": 3 * chunks, "chunk_frames": 3}
    return Storyboard(RelaxedMemory(), shots={"positive": shots}, **sizes)


def film_of(board, words=WORDS, rows=1):
    """A trace of a film in which the newest candidate is always chosen."""
    chunks = []
    for chunk in board:
        planned = timeline._planned(board, chunk)
        newest = planned.candidates[len(planned.candidates) - chunk.roles.history_frames :]
        said = words[board.words(chunk)["positive"].prompt] if words else ""
        chunks.append(
            dataclasses.replace(planned, history=(newest,) * rows, words=said, seconds=2.5)
        )
    return Trace(chunks=tuple(chunks), rows=tuple(f"positive {row}" for row in range(rows)))


@pytest.mark.parametrize(
    ("trace", "height", "drawn"),
    [
        (trace_of(plan()), 970, "e2952e0eab1ff685"),
        (trace_of(plan(40, prefix_frames=22), rows=2), 1332, "7613fbb1e17f236e"),
        (trace_of(plan(policy=WindowMemory()), seconds=0.0), 807, "b4a9cb70dc30f587"),
    ],
    ids=["paper", "prefix", "window"],
)
def test_a_video_without_shots_is_drawn_as_before_there_were_any(trace, height, drawn):
    picture = draw_timeline(trace)
    assert len(picture) == height
    no_text = picture[:-120, 1390:1590].tobytes()  # fonts differ from one Pillow to the next
    assert hashlib.sha256(no_text).hexdigest()[:16] == drawn


@pytest.mark.parametrize(
    "trace",
    [
        film_of(board()),
        film_of(board(), rows=3),
        film_of(board(), words=()),
        film_of(board((shot(0), shot(1, 1)), chunks=2)),
        film_of(board(tuple(shot(i, i % 4, i % 9, "cut") for i in range(400)), chunks=400)),
        film_of(board(), words=("\u732b" * 40, "M\xe4dchen", "w" * 40, "")),
    ],
    ids=["story", "rows", "no-words", "short", "400-scenes", "letters"],
)
def test_every_film_is_a_picture(trace):
    test_every_trace_is_a_picture_of_one_width(trace)


def column(picture, frame, of):
    return picture[:, chart.LEFT + round((frame + 0.5) / of * chart.PLOT)]


def test_scenes_and_moments_have_their_colours_where_they_are():
    picture = draw_timeline(film_of(board()))
    for frame, scene in ((30, 0), (100, 1), (200, 0)):
        there = column(picture, frame, 240)
        assert [has(there, colour) for colour in film.SCENES[:2]] == [scene == 0, scene == 1]
        assert has(there, film.MOMENT) == (frame == 200)
    assert has(column(picture, 70, 240), film.MOMENT), "the moment is marked where it was"


def test_a_film_of_one_scene_has_words_and_no_scenes():
    shots = (shot(0), shot(40, 1, 0, "blend", blend_seconds=2.0))
    one, plain = draw_timeline(film_of(board(shots))), draw_timeline(trace_of(plan()))
    assert len(one) == len(plain) + chart.LINE + chart.GAP
    assert not any(has(one, colour) for colour in (*film.SCENES, film.MOMENT))


def test_a_scene_that_comes_back_looks_as_far_back_as_if_it_had_not_been_away():
    lanes = [timeline._ages(chunk) for chunk in film.in_scenes(film_of(board())).chunks]
    alone = [timeline._ages(chunk) for chunk in trace_of(plan(45)).chunks]
    assert lanes[:20] + lanes[55:] == alone
    assert lanes[20:55] == alone[:35]


def test_strips_break_at_a_cut_and_not_at_a_shot():
    trace = film_of(board())
    assert film.cuts(trace) == [60, 165]
    picture = draw_timeline(trace)
    for frame, broken in ((60, True), (135, False), (165, True)):
        x = chart.LEFT + round(frame / 240 * chart.PLOT)
        assert has(picture[:, x - 2], strips.TAIL) != broken


def test_the_plan_of_a_film_has_its_words_scenes_and_moments():
    picture = draw_plan(board(), words=WORDS)
    assert has(picture, film.SCENES[0]) and has(picture, film.SCENES[1])
    assert has(picture, film.MOMENT)
    assert len(picture) == len(draw_plan(board())) + chart.LINE


@pytest.mark.parametrize(
    ("words", "told"),
    [("a M\xe4dchen", "a Madchen"), ("\u732b\u304c\u7720\u308b", "shot 4"), ("", "")],
)
def test_words_are_written_in_letters_of_the_font(words, told):
    assert film._readable(words, 4) == told
