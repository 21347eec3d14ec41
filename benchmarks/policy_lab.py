"""How memory policies behave over a minute of the small world: identity, drift, motion, artefacts.

The same prompts and noise go through every policy with the bundled models, and what is seen at
moments from the first second to the last is measured against what the prompts asked for. It is a
toy world: nothing here says how real videos look. Last line: JSON; `--save` also draws a plot.
"""

import math
import statistics
import time
from collections.abc import Iterable
from operator import sub

import common
import torch
from common import CHUNK_FRAMES, RESULTS, Shape
from PIL import Image, ImageDraw, ImageFont

from demo.bundle import MODEL, SHIFT, load_vae
from demo.text import TOKENS
from lab.measure import Report
from lab.observe import observe, pairs
from lab.world import FRAMES_PER_SECOND, SIZE
from relax_memory.host.loading.checkpoint import load_checkpoint
from relax_memory.plan import Plan
from relax_memory.policies import Policy, RelaxedMemory, WindowMemory

PAPER = "relaxed (paper)"
POLICIES: dict[str, Policy] = {
    "everything": WindowMemory(window_frames=0),
    "window of 21": WindowMemory(window_frames=18),
    "sink and window": WindowMemory(sink_frames=2, window_frames=16),
    PAPER: RelaxedMemory(),
    "relaxed, absolute": RelaxedMemory(rope="absolute"),
    "no sink": RelaxedMemory(sink_frames=0),
    "no history": RelaxedMemory(history_frames=0),
    "no tail": RelaxedMemory(tail_frames=0),
    "more sink": RelaxedMemory(sink_frames=6),
    "more tail": RelaxedMemory(tail_frames=4),
    "candidates near the tail": RelaxedMemory(reservoir_frames=18),
    "weight 0": RelaxedMemory(redundancy_weight=0.0),
    "weight 8": RelaxedMemory(redundancy_weight=8.0),
}
SHAPE = Shape(
    dim=256, ffn_dim=512, layers=4, width=SIZE, height=SIZE, text_tokens=TOKENS, dtype="float32"
)
VIDEO_SECONDS = 60
LOOK_SECONDS = (1, 10, 20, 30, 40, 50, 58)  # where a stretch that is measured begins
DRIFTING = ("main_right", "colour_error", "motion_ratio")  # whose slope over time is given
FIGURES = tuple(name for name, field in Report.__dataclass_fields__.items() if field.type is float)
COLUMNS = {
    "main_right": "main thing right",
    "colour_error": "colour error",
    "shape_error": "shape error",
    "colour_changed": "colour change",
    "motion_ratio": "motion",
    "lost": "lost",
    "split": "split",
    "invented": "invented",
    "colour_error_per_second": "colour drift",
}
PANELS = {  # of the plot: what they show, and the end of their axis
    "main_right": ("main thing right", 1.0),
    "motion_ratio": ("motion, of what is asked", 2.0),
    "lost": ("things lost", 1.0),
}
CONFIDENCE = 1.96  # deviations of a mean, for 95 %


def summary(reports: list[list[Report]], seconds: list[int]) -> dict:
    """Mean and half-width of the 95 % interval of every figure at every moment, and its drift."""
    lines = {
        name: [interval(getattr(report, name) for report in moment) for moment in reports]
        for name in (*FIGURES, "follows_prompt")
    }
    changes = [
        [report.changed(first) for first, report in zip(reports[0], moment, strict=True)]
        for moment in reports
    ]
    lines["colour_changed"] = [interval(colour for colour, _ in moment) for moment in changes]
    lines["shape_changed"] = [interval(shape for _, shape in moment) for moment in changes]
    videos = list(zip(*reports, strict=True))
    for name in DRIFTING:
        slopes = [slope(seconds, [getattr(report, name) for report in video]) for video in videos]
        lines[f"{name}_per_second"] = interval(slopes)
    return lines


def interval(figures: Iterable[float | None]) -> list[float | None]:
    """Mean and half-width of its 95 % interval; None where too little was seen."""
    known = [figure for figure in figures if figure is not None and not math.isnan(figure)]
    if len(known) < 2:
        return [None, None]
    half = CONFIDENCE * statistics.stdev(known) / math.sqrt(len(known))
    return [round(statistics.fmean(known), 4), round(half, 4)]


def slope(seconds: list[int], figures: list[float]) -> float | None:
    """Least squares, of the moments where there is something to see."""
    known = [(s, f) for s, f in zip(seconds, figures, strict=True) if not math.isnan(f)]
    if len({s for s, _ in known}) < 2:
        return None
    return statistics.linear_regression(*zip(*known, strict=True)).slope


def held_frames(policy: Policy, frames: int) -> int:
    """The most past frames whose keys and values are kept."""
    return Plan(policy, total_frames=frames, chunk_frames=CHUNK_FRAMES).peak_frames(0)


def table(figures: dict[str, dict]) -> str:
    """The end of the videos, in Markdown."""
    rows = ["| memory | " + " | ".join(COLUMNS.values()) + " | held | a chunk |"]
    rows.append("|---" * (len(COLUMNS) + 3) + "|")
    for name, line in figures.items():
        ends = [line[column] for column in COLUMNS]
        ends = [end[-1] if isinstance(end[-1], list) else end for end in ends]
        shown = ["-" if mean is None else f"{mean:.3f} ± {half:.3f}" for mean, half in ends]
        milliseconds = 1000 * line["seconds_per_chunk_and_video"]
        cost = f"{line['held_bytes'] / 1e6:.1f} MB | {milliseconds:.0f} ms"
        rows.append(f"| {name} | {' | '.join(shown)} | {cost} |")
    return "\n".join(rows)


def plot(figures: dict[str, dict]) -> Image.Image:
    """A row for every policy; identity, motion and artefacts at the end, each with its interval."""
    left, top, row, panel, gap = 330, 110, 46, 420, 60
    page = Image.new("RGB", (left + 3 * (panel + gap), top + row * len(figures) + 60), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=22)
    for index, (column, (title, most)) in enumerate(PANELS.items()):
        start = left + index * (panel + gap)
        pen.text((start, 30), title, "black", font)
        for mark in range(0, round(4 * most) + 1, 2):
            x, end = start + panel * mark / 4 / most, top + row * len(figures)
            pen.line((x, top, x, end), fill=(215, 215, 215))
            pen.text((x, end + 12), f"{mark / 4:g}", "dimgray", font, anchor="mt")
        for place, (name, line) in enumerate(figures.items()):
            y = top + row * (place + 0.5)
            colour = "crimson" if name == PAPER else "steelblue"
            mean, half = (figure or 0.0 for figure in line[column][-1])
            low, middle, high = (
                start + panel * min(max(figure, 0.0), most) / most
                for figure in (mean - half, mean, mean + half)
            )
            pen.line((low, y, high, y), fill=colour, width=3)
            pen.ellipse((middle - 8, y - 8, middle + 8, y + 8), fill=colour)
            if index == 0:
                pen.text((left - 24, y), name, colour, font, anchor="rm")
    return page


@torch.inference_mode()
def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=32, help="prompts, each with its own noise")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--seconds", type=int, default=VIDEO_SECONDS, help="length of the videos")
    options = parser.parse_args()
    length = FRAMES_PER_SECOND * options.seconds - 3
    seconds = [second for second in LOOK_SECONDS if second < options.seconds]
    model, vae = load_checkpoint(str(MODEL), shift=SHIFT), load_vae()
    scenes, figures, at_the_end = pairs(options.pairs), {}, {}
    for name in options.policies:
        policy, began = POLICIES[name], time.monotonic()
        reports, chunk_seconds = observe(model, vae, policy, scenes, length, seconds)
        figures[name] = summary(reports, seconds) | {
            "seconds_per_chunk_and_video": common.median(chunk_seconds),
            "held_bytes": SHAPE.frame_bytes * held_frames(policy, (length - 1) // 4 + 1),
        }
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        at_the_end[name] = {
            column: [getattr(report, column) for report in reports[-1]] for column in PANELS
        }
    for name in figures.keys() if PAPER in figures else ():
        figures[name]["more_than_paper"] = {
            column: interval(map(sub, at_the_end[name][column], at_the_end[PAPER][column]))
            for column in PANELS
        }
    print(table(figures))
    outcome = {"pairs": len(scenes), "seconds": seconds, "policies": figures}
    common.finish(common.result("policy_lab", SHAPE, outcome), save=options.save)
    if options.save:
        plot(figures).save(RESULTS / "policy_lab.png", optimize=True)


if __name__ == "__main__":
    main()
