"""What changed words do to films of the small world, and what a scene is when it comes back.

Pairs of prompts go through every transition with the bundled models and the same noise: seconds
until the new is there and the old is gone, whether what the words leave as it is stays, motion. And
films go somewhere else and back, as one scene, with a moment to remember, with neither. It is a toy
world: nothing here says how real videos look. Last line: JSON.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import sub
from pathlib import Path

import common
import torch
from policy_lab import PAPER, POLICIES, SHAPE, interval

from demo.bundle import MODEL, SHIFT, load_vae
from lab.films import (
    BATCH,
    CHUNK_FRAMES,
    MOMENTS_PER_SECOND,
    Change,
    Moment,
    Words,
    changes,
    film,
    journeys,
    moments,
    motion,
    pictures,
)
from lab.world import Scene
from relax_memory.host.loading.checkpoint import load_checkpoint

MEMORIES = (PAPER, "window of 21", "sink and window")
TRANSITIONS = {  # what stands in the stamp, and the moment in seconds before the shot
    "keep": ("keep", None),
    "recache": ("recache", None),
    "blend 1 s": ("blend", None),
    "keep, @ 1 s before": ("keep", 1),
    "cut": ("cut", None),
    "cut, @ 1 s before": ("cut", 1),
}
OLD_WORDS, NEW_WORDS = "old words only", "new words only"
WAYS = ("return", "@", "new scene", "keep")
ALL, NO_FIELD = "all words again", "words without the field"
AWAY = {5: 7, 15: 20, 40: 53}  # seconds, chunks
HOME_CHUNKS, BACK_CHUNKS = 7, 6
LOOK_MOMENTS = 16  # at the end, or where a scene comes back: 4 s
COMPARED = ("there_seconds", "right_at_the_end", "thing_kept", "motion_after", "off_pixels")
Record = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Lab:
    """The models, and how long the films are: their chunks before and after the words change."""

    model: object
    vae: object
    before_chunks: int
    after_chunks: int


def switched(lab: Lab, memory: str, how: str, batch: list[Change], seed: int) -> list[Record]:
    """What is seen of each change."""
    old, new = ([getattr(c, side).prompt for c in batch] for side in ("before", "after"))
    first = how == NEW_WORDS
    words = [Words(chunk=0, prompts=new if first else old)]
    if how in TRANSITIONS:
        transition, seconds = TRANSITIONS[how]
        at = CHUNK_FRAMES * lab.before_chunks
        moment = None if seconds is None else at - seconds * MOMENTS_PER_SECOND
        shot = {"transition": transition, "moment": moment}
        words.append(Words(chunk=lab.before_chunks, prompts=new, **shot))
    chunks = lab.before_chunks + lab.after_chunks
    latents = film(lab.model, POLICIES[memory], words, chunks=chunks, seed=seed)
    before, after = latents.tensor_split([CHUNK_FRAMES * lab.before_chunks], 2)
    anew = how.startswith("cut")
    shown = pictures(lab.vae, after, after=None if anew else before)
    earlier, last = before.tensor_split([-LOOK_MOMENTS], 2)
    earlier = pictures(lab.vae, last, after=earlier)
    return [_switch(*each, first=first) for each in zip(batch, earlier, shown, strict=True)]


def _switch(change: Change, before: torch.Tensor, after: torch.Tensor, *, first: bool) -> Record:
    seen = moments(after, change.after)
    new, old = _there(change, change.after, seen), _there(change, change.before, after)
    end = seen[-LOOK_MOMENTS:]
    gone = old.index(False) if False in old else None
    field = change.after.pattern, change.after.ground
    stays = {"field": 0, "one of two": 1}.get(change.kind)
    sought = change.after if any(new) else change.before
    place = moments(after[: 4 * MOMENTS_PER_SECOND], sought)[-1].place
    return {
        "there_seconds": new.index(True) / MOMENTS_PER_SECOND if True in new else None,
        "never_there": float(True not in new),
        "old_gone_seconds": None if gone is None else gone / MOMENTS_PER_SECOND,
        "old_again": None if gone is None else _share(old[gone:]),
        "right_at_the_end": _share(new[-LOOK_MOMENTS:]),
        "field_kept": None if change.kind == "field" else _share([m.field == field for m in seen]),
        "thing_kept": None if stays is None else _share([m.right[stays] for m in end]),
        "motion_before": motion(before, change.after if first else change.before),
        "motion_after": motion(after[-4 * LOOK_MOMENTS :], sought),
        "x": place and place[0],
        "y": place and place[1],
    }


def _there(change: Change, scene: Scene, seen: torch.Tensor | list[Moment]) -> list[bool]:
    """At each moment whether what the words change is as in `scene`."""
    found = moments(seen, scene) if isinstance(seen, torch.Tensor) else seen
    if change.kind == "field":
        return [moment.field == (scene.pattern, scene.ground) for moment in found]
    return [moment.right[0] for moment in found]


def _share(told: list[bool]) -> float:
    return sum(told) / len(told)


def back(
    lab: Lab, away: int, way: str, told: str, batch: list[tuple[Scene, Scene]], seed: int
) -> list[Record]:
    """How much each scene is what it was, when it comes back after so many chunks."""
    left, again = HOME_CHUNKS, HOME_CHUNKS + away
    frames = [CHUNK_FRAMES * chunk for chunk in (left, again)]
    home, elsewhere = ([scenes[i].prompt for scenes in batch] for i in (0, 1))
    short = [scenes[0].prompt.replace(_field_words(scenes[0]), "") for scenes in batch]
    how = {"transition": "keep" if way == "keep" else "cut"}
    names = {"scene": "home", "transition": "keep"} if way == "return" else {}
    words = [
        Words(chunk=0, prompts=home, **names),
        Words(chunk=left, prompts=elsewhere, **how),
        Words(
            chunk=again,
            prompts=home if told == ALL else short,
            **how | names,
            moment=frames[0] - 1 if way == "@" else None,
        ),
    ]
    chunks = again + BACK_CHUNKS
    latents = film(lab.model, POLICIES[PAPER], words, chunks=chunks, seed=seed)
    first, there, here = latents.tensor_split(frames, 2)
    earlier, last = first.tensor_split([-MOMENTS_PER_SECOND], 2)
    decoder = {"return": first, "keep": there}.get(way)
    before = pictures(lab.vae, last, after=earlier)
    after = pictures(lab.vae, here[:, :, :LOOK_MOMENTS], after=decoder)
    return [_back(scene, *each) for (scene, _), *each in zip(batch, before, after, strict=True)]


def _field_words(scene: Scene) -> str:
    return f" over a {scene.pattern} {scene.ground} field"


def _back(scene: Scene, before: torch.Tensor, after: torch.Tensor) -> Record:
    was, seen = moments(before, scene)[-1], moments(after, scene)
    field = scene.pattern, scene.ground
    places = was.place, seen[0].place
    return {
        "thing": _share([moment.right[0] for moment in seen]),
        "colour": _share([moment.seen[0] for moment in seen]),
        "field": _share([moment.field == field for moment in seen]),
        "field_colour": _share([moment.field[1] == scene.ground for moment in seen]),
        "thing_before": float(was.right[0]),
        "field_before": float(was.field == field),
        "jump_pixels": None if None in places else math.dist(*places),
    }


class Runs:
    """Records of runs by name, kept in a file so that a lab that was stopped goes on."""

    def __init__(self, path: Path | None, made_with: list) -> None:
        self._path = path
        self._made_with = made_with
        known = json.loads(path.read_text()) if path and path.exists() else {}
        self._found = known["runs"] if known.get("made_with") == made_with else {}

    def __call__(self, name: str, run: Callable[[], Iterator[list[Record]]]) -> list[Record]:
        if name not in self._found:
            print(name, flush=True)
            self._found[name] = [record for batch in run() for record in batch]
            if self._path:
                text = json.dumps({"made_with": self._made_with, "runs": self._found})
                self._path.write_text(text)
        return self._found[name]


def batches(films: list) -> Iterator[tuple[list, int]]:
    return ((films[first : first + BATCH], first) for first in range(0, len(films), BATCH))


def summary(records: list[Record], usual: list[Record] | None = None) -> dict:
    """Mean and half-width of the 95 % interval of every figure.

    Args:
        usual: the same films with the old words only, from whose places `off_pixels` are.
    """
    return {name: interval(r[name] for r in records) for name in records[0] if name not in "xy"} | (
        {} if usual is None else {"off_pixels": interval(map(_off, records, usual))}
    )


def _off(one: Record, other: Record) -> float | None:
    places = [(record["x"], record["y"]) for record in (one, other)]
    return None if any(None in place for place in places) else math.dist(*places)


def more(records: list[Record], keep: list[Record], usual: list[Record]) -> dict:
    """How much more each figure is than with keep, film by film."""
    both = [
        [
            record | {"off_pixels": _off(record, other)}
            for record, other in zip(r, usual, strict=True)
        ]
        for r in (records, keep)
    ]
    return {
        name: interval(
            sub(one[name], other[name])
            for one, other in zip(*both, strict=True)
            if None not in (one[name], other[name])
        )
        for name in COMPARED
    }


def table(rows: dict[str, dict], columns: list[str]) -> str:
    """In Markdown."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [row[column] for column in columns]
        told = ["-" if mean is None else f"{mean:.2f} ± {half:.2f}" for mean, half in cells]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines)


def measure_switches(lab: Lab, runs: Runs, pairs: int, memories: list[str]) -> dict:
    films, figures = changes(pairs), {}
    for memory in memories:
        found = {
            how: runs(
                f"{memory}: {how}",
                lambda memory=memory, how=how: (
                    switched(lab, memory, how, *batch) for batch in batches(films)
                ),
            )
            for how in (OLD_WORDS, NEW_WORDS, *TRANSITIONS)
        }
        usual, keep = found[OLD_WORDS], found["keep"]
        figures[memory] = {how: summary(records, usual) for how, records in found.items()}
        for how in TRANSITIONS:
            if how != "keep":
                figures[memory][how]["more_than_keep"] = more(found[how], keep, usual)
        print(memory, table(figures[memory], [*figures[memory]["keep"]]), sep="\n", flush=True)
    return figures


def measure_returns(lab: Lab, runs: Runs, counts: dict[int, int]) -> dict:
    figures: dict[str, dict] = {}
    for seconds, pairs in counts.items():
        films = journeys(pairs)
        for told in (ALL, NO_FIELD):
            figures[f"{seconds} s away, {told}"] = found = {"films": pairs}
            for way in WAYS:
                records = runs(
                    f"{seconds} s away, {told}: {way}",
                    lambda seconds=seconds, told=told, way=way, films=films: (
                        back(lab, AWAY[seconds], way, told, *batch) for batch in batches(films)
                    ),
                )
                found[way] = summary(records)
            rows = {way: found[way] for way in WAYS}
            print(seconds, told, table(rows, [*found["return"]]), sep="\n", flush=True)
    return figures


@torch.inference_mode()
def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=16, help="of prompts, each with its own noise")
    parser.add_argument("--memories", nargs="*", choices=POLICIES, default=list(MEMORIES))
    parser.add_argument("--away", nargs="*", type=int, choices=AWAY, default=list(AWAY))
    parser.add_argument("--far-pairs", type=int, help="for the longest way; half as many if unset")
    parser.add_argument("--chunks", nargs=2, type=int, default=(11, 11), help="before and after")
    parser.add_argument("--keep", type=Path, help="file of finished runs, with which one goes on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before, after = options.chunks
    lab = Lab(
        model=load_checkpoint(str(MODEL), shift=SHIFT),
        vae=load_vae(),
        before_chunks=before,
        after_chunks=after,
    )
    runs = Runs(options.keep, [common.COMMIT, options.pairs, options.far_pairs, before, after])
    far = options.far_pairs or max(2, options.pairs // 2)
    counts = {seconds: far if seconds == max(AWAY) else options.pairs for seconds in options.away}
    figures = {
        "pairs": options.pairs,
        "seed": 0,
        "chunks": {"before": before, "after": after},
        "switches": measure_switches(lab, runs, options.pairs, options.memories),
        "returns": measure_returns(lab, runs, counts),
    }
    common.finish(common.result("film_lab", SHAPE, figures), save=options.save)


if __name__ == "__main__":
    main()
