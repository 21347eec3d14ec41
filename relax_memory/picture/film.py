"""The shots of a film above its timeline: where their words begin, its scenes, its moments.

A video without shots has none of it. Knows traces and the page, and not what lies below.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from unicodedata import normalize

from ..trace import ChunkTrace, Trace
from .chart import GAP, INK, LEFT, LINE, PLOT, SOFT, WHITE, Chart, Colour, clock

BAND, CUT, LINES = 26, 6, 3
# Light, so that their number can be read on them, on a dark canvas too; no role has these hues.
SCENES: tuple[Colour, ...] = (
    (170, 214, 245),
    (250, 236, 140),
    (214, 190, 240),
    (196, 232, 168),
    (248, 196, 190),
    (222, 206, 180),
)
MOMENT: Colour = (170, 51, 119)


@dataclass(frozen=True)
class Run:
    """Chunks that follow on each other: their first frame, the one after the last, and the first
    of the chunks.
    """

    first: int
    end: int
    chunk: ChunkTrace


def is_film(trace: Trace) -> bool:
    """Whether shots, scenes or moments were directed."""
    return any(chunk.words or chunk.scene or chunk.pinned for chunk in trace.chunks)


def in_scenes(trace: Trace) -> Trace:
    """The trace with what each chunk looked back at as far away as in its scene.

    So a lane stays level when a scene comes back. Moments stay where they are in the film.
    """
    counted: Counter[int] = Counter()
    own: dict[int, int] = {}
    for chunk in trace.chunks:
        for frame in chunk.frames:
            own[frame] = counted[chunk.scene]
            counted[chunk.scene] += 1

    def moved(chunk: ChunkTrace) -> ChunkTrace:
        away = chunk.frames[0] - own[chunk.frames[0]]

        def near(frames: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(own[frame] + away for frame in frames)

        return replace(
            chunk,
            candidates=near(chunk.candidates),
            tail=near(chunk.tail),
            history=tuple(map(near, chunk.history)),
        )

    return replace(trace, chunks=tuple(map(moved, trace.chunks)))


def cuts(trace: Trace) -> list[int]:
    """Frames with which another scene goes on."""
    return [run.first for run in _runs(trace, "scene")][1:]


def draw_shots(chart: Chart, trace: Trace, y: int) -> int:
    """Words where they begin and, where there are several, a band of scenes."""
    if not is_film(trace):
        return y
    shots = list(_runs(trace, "words", "scene"))
    if any(shot.chunk.words for shot in shots):
        y = _words(chart, shots, y)
    if cuts(trace):
        chart.write(LEFT - 16, y + BAND / 2, "scene", ink=INK, anchor="rm")
        for run in _runs(trace, "scene"):
            colour = SCENES[run.chunk.scene % len(SCENES)]
            _block(
                chart, run, y, colour, (f"scene {run.chunk.scene + 1}", f"{run.chunk.scene + 1}")
            )
        y += BAND
    return y + GAP


def draw_moments(chart: Chart, trace: Trace, y: int) -> int:
    """Where a moment is read, with the time at which it was."""
    for run in _runs(trace, "pinned"):
        if run.chunk.pinned:
            seconds = chart.video_seconds(run.chunk.pinned[0])
            _block(chart, run, y, MOMENT, (f"reads {clock(seconds)}", clock(seconds)))
    return y + BAND


def mark_moments(chart: Chart, trace: Trace, y: int, height: int) -> None:
    """Where the moments lie that are read."""
    for frame in sorted({frame for chunk in trace.chunks for frame in chunk.pinned}):
        chart.mark(frame, frame + 1, y, height, MOMENT)


def _runs(trace: Trace, *names: str) -> Iterator[Run]:
    """Chunks that are alike in these fields."""
    alike = [tuple(getattr(chunk, name) for name in names) for chunk in trace.chunks]
    first = [i for i, own in enumerate(alike) if not i or own != alike[i - 1]]
    for start, stop in pairwise((*first, len(alike))):
        chunks = trace.chunks[start:stop]
        yield Run(chunks[0].frames[0], chunks[-1].frames[-1] + 1, chunks[0])


def _block(chart: Chart, run: Run, y: int, colour: Colour, names: tuple[str, ...]) -> None:
    """A block of colour with the longest name that it has room for."""
    left, right = chart.mark(run.first, run.end, y, BAND, colour)
    for name in names:
        if chart.width(name, size=20) + 12 <= right - left:
            ink = WHITE if colour == MOMENT else INK
            chart.write(left + 8, y + BAND / 2, name, ink=ink, size=20)
            return


def _words(chart: Chart, shots: list[Run], y: int) -> int:
    """Words in as few lines as hold them, or in three, where each ends before the next in its line.

    Lines go down from shot to shot, so that no word lies in the way of the mark of a later shot.
    """
    texts = [_readable(shot.chunk.words, number) for number, shot in enumerate(shots, 1)]
    places = [chart.x(shot.first) for shot in shots]
    ends = [*places[1:], LEFT + PLOT]
    lines = next(
        (
            lines
            for lines in range(1, LINES)
            if all(
                chart.width(text, size=22) + 16 <= ends[min(_last(i, lines), len(ends) - 1)] - x
                for i, (text, x) in enumerate(zip(texts, places, strict=True))
            )
        ),
        LINES,
    )
    bottom = y + lines * LINE
    for i, (text, x) in enumerate(zip(texts, places, strict=True)):
        top = y + i % lines * LINE
        chart.line(x, top, bottom, SOFT)
        room = ends[min(_last(i, lines), len(ends) - 1)] - x - 16
        chart.write(x + 8, top + LINE / 2, chart.shortened(text, room, size=22), ink=INK)
    chart.write(LEFT - 16, y + LINE / 2, "words", ink=INK, anchor="rm")
    return bottom


def _last(shot: int, lines: int) -> int:
    """The last shot whose words lie in the same lines down as those of this one."""
    return shot - shot % lines + lines - 1


def _readable(words: str, number: int) -> str:
    """Words in the letters that the font has, or the number of the shot."""
    plain = normalize("NFKD", words).encode("ascii", "ignore").decode().strip()
    return plain if 2 * len(plain) >= len(words) else f"shot {number}"
