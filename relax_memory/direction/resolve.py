"""Puts a script on the chunks of one video."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

from ..grid import WAN
from .chunks import Chunks
from .scenes import scenes_of
from .script import Cue, Script, Transition, check_order, mistake
from .shots import Direction, Shot

MOST_TOLD = 10  # starts in one line


def resolve(
    script: Script, grid: Chunks, *, transition: Transition, blend_seconds: float
) -> Direction:
    """The shots of a video.

    Args:
        transition, blend_seconds: of cues that do not say theirs.

    Raises:
        ScriptError: the script cannot be put on this video, at the cue that is wrong.
    """
    check_order(script.cues, grid.fps)
    starts = starts_of(script.cues, grid)
    cues = script.cues[: bisect_left(starts, grid.end)]
    chunks = _chunks(cues, starts, grid)
    prompts: dict[str, int] = {}
    shots = []
    begins = scenes_of(script.cues, transition)
    for index, (cue, chunk, (scene, begin)) in enumerate(zip(cues, chunks, begins, strict=False)):
        blend = float(cue.blend.seconds(grid.fps)) if cue.blend else blend_seconds
        shots.append(
            Shot(
                first_chunk=chunk,
                prompt=prompts.setdefault(cue.text, index),
                scene=scene,
                transition=begin,
                blend_seconds=blend if begin == "blend" else 0.0,
                moment=_moment(cue, chunk, grid),
            )
        )
    told = [grid.told(grid.start(shot.first_chunk)) for shot in shots]
    return Direction(
        shots=tuple(shots),
        begins=f"Shots begin at {_listed(told)}" if len(shots) > 1 else "",
        notes=tuple(_notes(script.cues, shots, starts, grid)),
    )


def starts_of(cues: Sequence[Cue], grid: Chunks) -> list[Fraction]:
    """The frame of the video at which each cue is written to begin, ascending."""
    if cues[0].start is not None:
        return [cue.start.video_frames(grid.fps) for cue in cues if cue.start]
    given = [cue.duration.video_frames(grid.fps) if cue.duration else None for cue in cues]
    left = grid.end - sum(length for length in given if length is not None)
    shares = given.count(None)
    if shares and left <= 0:
        cue = cues[given.index(None)]
        raise mistake(
            cue,
            f"nothing is left for this shot: the video takes {grid.told(grid.end)} s and the "
            "shots with a time as much or more. Shorten one, or make a longer video.",
        )
    lengths = [left / shares if length is None else length for length in given]
    return [Fraction(start) for start in accumulate(lengths[:-1], initial=Fraction(0))]


def _chunks(cues: Sequence[Cue], starts: Sequence[Fraction], grid: Chunks) -> list[int]:
    """The chunk at which each cue begins, each after the one before."""
    chunks = [grid.nearest(start) for start in starts[: len(cues)]]
    if all(cue.start is None and cue.duration is None for cue in cues):
        return _spread(cues, chunks, grid)
    for cue, (chunk, following) in zip(cues, pairwise(chunks), strict=False):
        if chunk == following:
            length = WAN.video_frames * grid.chunk_frames
            raise mistake(
                cue,
                "this shot is too short: shots begin with a chunk, every "
                f"{grid.told(length)} s, and the next would begin with this one at "
                f"{grid.told(grid.start(chunk))} s. Make it longer, or remove one of them.",
            )
    return chunks


def _spread(cues: Sequence[Cue], chunks: Sequence[int], grid: Chunks) -> list[int]:
    """Equal parts, of which each has at least a chunk."""
    if len(cues) > grid.count:
        raise mistake(
            cues[grid.count],
            f"nothing is left for this shot: the video is made in {grid.count} chunks, so it has "
            f"{grid.count} shots at most. Make it longer, or remove shots.",
        )
    found: list[int] = []
    for index, chunk in enumerate(chunks):
        first = found[-1] + 1 if found else 0
        found.append(min(max(chunk, first), grid.count - len(cues) + index))
    return found


def _moment(cue: Cue, chunk: int, grid: Chunks) -> int | None:
    """The latent frame that a cue must remember."""
    if cue.moment is None:
        return None
    frame = grid.latent(cue.moment.video_frames(grid.fps))
    if frame >= grid.first_frame(chunk):
        raise mistake(
            cue,
            f"@{cue.moment} is not yet there: this shot begins at {grid.told(grid.start(chunk))} "
            "s. Write an earlier moment.",
        )
    return frame


def _notes(
    cues: Sequence[Cue], shots: Sequence[Shot], starts: Sequence[Fraction], grid: Chunks
) -> Iterator[str]:
    """What a person may not expect of how a script came onto the chunks, a sentence each."""
    begins = [grid.start(shot.first_chunk) for shot in shots]
    if left_out := cues[len(shots) :]:
        yield (
            f"{len(left_out)} of {len(cues)} shots, from {left_out[0].where} on, begin after the "
            f"end of the video at {grid.told(grid.end)} s and are left out"
        )
    for shot, (begin, end) in zip(shots, pairwise([*begins, grid.end]), strict=True):
        if shot.blend_seconds > (end - begin) / grid.fps:
            yield (
                f"The blend at {grid.told(begin)} s takes {shot.blend_seconds:g} s, but its shot "
                f"{grid.told(end - begin)} s: its words are never all there"
            )
    shared = next((i for i, cue in enumerate(cues) if not (cue.start or cue.duration)), len(cues))
    if shared + 1 < len(begins):
        yield (
            "Shots without a time move with the length: a longer video is sure to keep what is "
            f"before {grid.told(begins[shared + 1])} s"
        )
    if not left_out and _stops(cues[-1], starts[-1], grid):
        yield f"The last shot goes on to the end of the video at {grid.told(grid.end)} s"


def _stops(cue: Cue, start: Fraction, grid: Chunks) -> bool:
    """Whether the last cue is written to end before the last chunk."""
    if cue.end:
        end = cue.end.video_frames(grid.fps)
    elif cue.duration:
        end = start + cue.duration.video_frames(grid.fps)
    else:
        return False
    return end < grid.start(grid.count - 1)


def _listed(words: Sequence[str]) -> str:
    """ "0, 5.06 and 10.3 s", or the first and how many more."""
    if len(words) > MOST_TOLD:
        return f"{', '.join(words[:MOST_TOLD])} s and {len(words) - MOST_TOLD} more"
    return f"{', '.join(words[:-1])} and {words[-1]} s"
