"""The memory timeline: one picture of what every chunk of a video looked back at.

The video runs from left to right as it was made; from each moment one looks back downwards: the
chunk in work, the tail, the history among its candidates, and, below a break of the axis, the sinks
at the beginning of the video. A look back is drawn by its age, not by its date, so a lane stays a
lane however long the video is, and in a film the time of its scene counts, so it stays one when a
scene comes back. Knows traces and plans, no tensors and no host.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from ..grid import WAN
from ..passes import Chunk
from ..storyboard import SCENES, Storyboard
from ..trace import ChunkTrace, Trace
from .chart import GAP, INK, LEFT, LINE, MARGIN, PLOT, SOFT, WHITE, Chart, Colour, duration, ticks
from .film import BAND as MOMENTS
from .film import CUT, MOMENT, cuts, draw_moments, draw_shots, in_scenes, mark_moments
from .strips import HISTORY, NO_SCORE, SCORES, TAIL, THICK, THIN, Lanes, ScoreColours

MAX_PANELS = 4
HEIGHTS = (480, 330, 250, 210)  # of the lanes, with 1 to 4 panels
LANE, BAND, BARS = 26, 18, 90
DARKEST = 32  # of a dark canvas

NOW, NOW_TOO, GIVEN, SINK = (88, 88, 88), (120, 120, 120), (190, 190, 190), (0, 114, 178)


def draw_timeline(trace: Trace) -> np.ndarray:
    """Draw what a rollout did, one panel a row for the first four rows: uint8 `[height, width, 3]`.

    Raises `ValueError` for a trace without chunks.
    """
    history_frames = max((len(h) for chunk in trace.chunks for h in chunk.history), default=0)
    return _draw(trace, "What the video looked back at", history_frames)


def draw_plan(plan: Storyboard, *, fps: float = WAN.fps, words: Sequence[str] = ()) -> np.ndarray:
    """Draw what chunks may read, before any is made, in the manner of `draw_timeline`.

    `words` are the first of each prompt of the positive conditioning.
    """
    chunks = tuple(
        replace(_planned(plan, chunk), words=words[plan.words(chunk)[SCENES].prompt])
        if words
        else _planned(plan, chunk)
        for chunk in plan
    )
    planned = Trace(chunks=chunks, rows=("plan",), fps=fps)
    history_frames = max(chunk.roles.history_frames for chunk in plan)
    return _draw(planned, "What the video can look back at", history_frames)


def _planned(plan: Storyboard, chunk: Chunk) -> ChunkTrace:
    roles = chunk.roles
    sink, candidates, tail = (
        plan.film_frames(chunk.scene, frames)
        for frames in (roles.sink, roles.candidates, roles.tail)
    )
    return ChunkTrace(
        index=chunk.film_index,
        frames=chunk.film_frames,
        given=chunk.given,
        scene=chunk.scene,
        pinned=roles.pinned,
        sink=sink,
        candidates=candidates,
        tail=tail,
        history=(() if roles.has_choice else candidates,),
        scores=(),
        seconds=0.0,
    )


def on_dark(picture: np.ndarray) -> np.ndarray:
    """The picture for a dark canvas: light turned into dark and the other way, in the same hues."""
    colours = picture.astype(np.int16)
    turned = 255 - colours.max(-1, keepdims=True) - colours.min(-1, keepdims=True) + colours
    return (DARKEST + turned * (255 - DARKEST) / 255).astype(np.uint8)


def _draw(trace: Trace, title: str, history_frames: int) -> np.ndarray:
    if not trace.chunks:
        raise ValueError("The trace has no chunks: run the sampler for one chunk or more.")
    chart = Chart(trace.chunks[-1].frames[-1] + 1, trace.fps)
    trace = in_scenes(trace)
    scores = ScoreColours.of(trace)
    y = MARGIN + 44
    chart.write(LEFT, y, title, ink=INK, size=42, anchor="ls")
    for line in (_video_fact(chart, trace), _memory_fact(trace, history_frames)):
        y += LINE + 6
        chart.write(LEFT, y, line, size=24, anchor="ls")
    y = _legend(chart, trace, scores, y=y + LINE) + GAP
    y = draw_shots(chart, trace, y)
    panels = min(len(trace.rows), MAX_PANELS)
    ages = [c.frames[0] - f for c in trace.chunks for f in (*c.candidates, *c.tail, *_chosen(c))]
    oldest = max(ages, default=1)
    lanes = Lanes(height=min(HEIGHTS[panels - 1], LANE * oldest), oldest=oldest)
    for row in range(panels):
        y = _panel(chart, trace, row, lanes=lanes, scores=scores, y=y) + LINE
    if any(chunk.seconds for chunk in trace.chunks):
        y = _making_times(chart, trace.chunks, y)
    y = chart.time_axis(y)
    return chart.pixels(y + MARGIN)


def _video_fact(chart: Chart, trace: Trace) -> str:
    given = sum(len(chunk.frames) for chunk in trace.chunks if chunk.given)
    seconds = round(sum(chunk.seconds for chunk in trace.chunks))
    length = duration(round(chart.video_seconds(chart.frames), 1))
    return (
        f"{length} of video at {trace.fps:g} frames per second: "
        f"{_count(chart.frames, 'latent frame')} in {_count(len(trace.chunks), 'chunk')}"
        + (f", the first {given} given" if given else "")
        + (f", made in {duration(seconds)}" if seconds else "")
    )


def _memory_fact(trace: Trace, history_frames: int) -> str:
    moment, sink, candidates, tail = (
        max(len(getattr(chunk, role)) for chunk in trace.chunks)
        for role in ("pinned", "sink", "candidates", "tail")
    )
    choice = f" (chosen among {candidates})" if candidates > history_frames else ""
    sizes = {"moment": moment, "sink": sink, f"history{choice}": history_frames, "tail": tail}
    read = " + ".join(f"{size} {role}" for role, size in sizes.items() if size)
    hidden = len(trace.rows) - MAX_PANELS
    scenes = ", each scene in its own time" if cuts(trace) else ""
    return f"Latent frames of the past that a chunk reads: {read or 'none'}{scenes}" + (
        f". The first {MAX_PANELS} of {len(trace.rows)} rows are shown" if hidden > 0 else ""
    )


def _legend(chart: Chart, trace: Trace, scores: ScoreColours, *, y: int) -> int:
    every = [s for chunk in trace.chunks for row in chunk.scores for s in row]
    entries = []
    if any(_chosen(chunk) for chunk in trace.chunks):
        entries.append(([HISTORY], THICK, "history"))
    if any(set(chunk.candidates).difference(*chunk.history) for chunk in trace.chunks):
        entries.append(([HISTORY], THIN, "candidate for history"))
    if scores.differ:
        low, high = _told_apart(scores.low, scores.high)
        entries.append((SCORES, THICK, f"score, {low} (light) to {high}"))
    if not all(map(math.isfinite, every)):
        entries.append(([NO_SCORE], THICK, "score is not a number"))
    if any(chunk.given for chunk in trace.chunks):
        entries.append(([GIVEN], BAND, "given, not generated"))
    if any(chunk.pinned for chunk in trace.chunks):
        entries.append(([MOMENT], THICK, "moment to remember"))
    x: float = LEFT
    for colours, thick, text in entries:
        x = chart.write(chart.swatch(x, y, colours, height=thick) + 12, y, text) + 44
    return y + GAP if entries else y - LINE // 2


def _told_apart(low: float, high: float) -> tuple[str, str]:
    """Two numbers with three digits, or more where three are the same."""
    texts = ((f"{low:.{digits}g}", f"{high:.{digits}g}") for digits in range(3, 18))
    return next(pair for pair in texts if low == high or pair[0] != pair[1])


def _panel(
    chart: Chart, trace: Trace, row: int, *, lanes: Lanes, scores: ScoreColours, y: int
) -> int:
    chunks = trace.chunks
    if len(trace.rows) > 1:
        chart.write(LEFT, y + LINE, _row_name(trace.rows[row]), ink=INK, size=26, anchor="ls")
        y += LINE + GAP
    frames = max(len(chunk.frames) for chunk in chunks)
    labels = [(y + BAND // 2, f"chunk: {_count(frames, 'frame')}", NOW)]
    chart.write(LEFT - 16, y + BAND // 2, "now", ink=INK, anchor="rm")
    top = y
    y = chart.lay(_band(chart, chunks, [_now_colour(c, len(chunks)) for c in chunks]), y) + GAP
    mark_moments(chart, trace, top, BAND)

    age_seconds, one = chart.ago_seconds(lanes.oldest), chart.ago_seconds(1)
    for seconds in ticks(age_seconds, lanes.height // 50 or 1, least=one)[1:]:
        at = y + lanes.y(seconds / one)
        chart.write(LEFT - 16, at, f"{duration(seconds)} ago", anchor="rm")
    labels += [(y + lanes.y(age), text, ink) for age, text, ink in _lane_labels(chart, chunks, row)]
    y = chart.lay(lanes.strip(chart, trace, row, scores=scores), y)

    sink = max((chunk.sink for chunk in chunks), key=len)
    if sink:
        y += GAP
        labels.append((y + BAND // 2, f"sink: {_count(len(sink), 'frame')}", SINK))
        chart.write(LEFT - 16, y + BAND // 2, "beginning", ink=INK, anchor="rm")
        y = chart.lay(_band(chart, chunks, [SINK if c.sink else None for c in chunks]), y)
    if any(chunk.pinned for chunk in chunks):
        y += GAP
        labels.append((y + MOMENTS // 2, "moment: 1 frame", MOMENT))
        chart.write(LEFT - 16, y + MOMENTS // 2, "moment", ink=INK, anchor="rm")
        y = draw_moments(chart, trace, y)
    _draw_cuts(chart, trace, top, y)
    _write_labels(chart, labels)
    return y


def _draw_cuts(chart: Chart, trace: Trace, top: int, bottom: int) -> None:
    """Break what lies between two heights where another scene goes on."""
    frames = cuts(trace)
    width = min(CUT, PLOT // (4 * len(frames) + 1))
    for frame in frames if width > 1 else ():
        chart.line(chart.x(frame), top, bottom, WHITE, width)
        chart.line(chart.x(frame), top, bottom, SOFT, max(1, width // 3))


def _row_name(row: str) -> str:
    """ "video 2" of "positive 1", as people count and call them."""
    kind, _, sample = row.rpartition(" ")
    if not sample.isdecimal():
        return row
    return f"video {int(sample) + 1}{'' if kind == 'positive' else f', {kind} prompt'}"


def _write_labels(chart: Chart, labels: Iterable[tuple[float, str, Colour]]) -> None:
    """Words at the right edge, pushed down where they would touch; history that finds no room near
    its lane goes without."""
    free = 0.0
    for at, text, ink in sorted(labels):
        if ink == HISTORY and free - at > LINE / 2:
            continue
        at = max(at, free)
        chart.write(LEFT + PLOT + 20, at, text, ink=ink)
        free = at + LINE - 4


def _lane_labels(
    chart: Chart, chunks: tuple[ChunkTrace, ...], row: int
) -> Iterator[tuple[float, str, Colour]]:
    """Age in frames, words and colour for the tail and for each candidate where it mostly lay."""
    tail = max((chunk.tail for chunk in chunks), key=len)
    if tail:
        yield (1 + len(tail)) / 2, f"tail: {_count(len(tail), 'frame')}", TAIL
    # Newest first: among equally common places, the one that the lanes end in.
    places = Counter(_ages(chunk) for chunk in reversed(chunks) if chunk.candidates)
    ages, common = places.most_common(1)[0] if places else ((), 0)
    there = [chunk for chunk in chunks if _ages(chunk) == ages and chunk.history[row]]
    for rank, age in enumerate(ages):
        share = ""
        if there and common > 1:
            read = sum(chunk.candidates[rank] in chunk.history[row] for chunk in there)
            share = f", read {read / len(there):.0%}"
        yield age, f"{duration(chart.ago_seconds(age))} ({age} frames) ago{share}", HISTORY


def _making_times(chart: Chart, chunks: tuple[ChunkTrace, ...], y: int) -> int:
    """Bars of the time each chunk took, the median at half height, longer ones cut."""
    timed = [chunk for chunk in chunks if chunk.seconds]
    usual = median([c.seconds for c in timed if not c.given] or [c.seconds for c in timed])
    slowest = max(timed, key=lambda chunk: chunk.seconds)
    strip = chart.blank(BARS)
    for chunk in timed:
        top = max(BARS - round(chunk.seconds / usual * BARS / 2), 0)
        strip[top:, chunk.frames[0] : chunk.frames[-1] + 1] = GIVEN if chunk.given else NOW_TOO
    chart.write(LEFT - 16, y + BARS / 2, f"{usual:.3g} s", anchor="rm")
    words = (
        "time to make a chunk",
        f"median {usual:.3g} s",
        f"slowest {slowest.seconds:.3g} s, chunk {slowest.index}",
    )
    for line, text in enumerate(words):
        chart.write(LEFT + PLOT + 20, y + line * LINE, text, ink=NOW, anchor="lt")
    return chart.lay(strip, y)


def _band(
    chart: Chart, chunks: tuple[ChunkTrace, ...], colours: Iterable[Colour | None]
) -> np.ndarray:
    """A band with one colour a chunk, None for nothing."""
    band = chart.blank(BAND)
    for chunk, colour in zip(chunks, colours, strict=True):
        if colour:
            band[:, chunk.frames[0] : chunk.frames[-1] + 1] = colour
    return band


def _now_colour(chunk: ChunkTrace, chunks: int) -> Colour:
    """Two greys in turn show the chunks as long as they are wide enough to be seen."""
    if chunk.given:
        return GIVEN
    return NOW_TOO if chunk.index % 2 and PLOT / chunks >= 6 else NOW


def _ages(chunk: ChunkTrace) -> tuple[int, ...]:
    return tuple(chunk.frames[0] - frame for frame in chunk.candidates)


def _chosen(chunk: ChunkTrace) -> set[int]:
    """History of any row."""
    return set().union(*chunk.history)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
