"""A plan in words: how long, what is looked back at, what it costs, what to mind.

Knows no tensors and no host; bytes come in as numbers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..grid import WAN, Grid
from ..storyboard import SCENES, Storyboard

NAMES = {"pinned": "moment"}  # what people call a role, where that differs


@dataclass(frozen=True, kw_only=True)
class TierCost:
    """What one choice of `reservoir_device` and `reservoir_dtype` needs beside the weights."""

    name: str
    device_bytes: int
    host_bytes: int
    fits: bool
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How often a chunk goes through the model: its steps, and a clean pass to be remembered.

    Scenes that are `parked` wait in host memory while they are away.
    """

    first_steps: int
    steps: int
    clean_pass: bool = True
    parked: frozenset[int] = frozenset()

    def of(self, plan: Storyboard) -> str:
        """In words; a chunk that no other reads, such as the last one, is not remembered."""
        first, later = self.first_steps + self.clean_pass, self.steps + self.clean_pass
        begins = "the first one" if len(plan.plans) == 1 else "the first one of a scene"
        each = f"A chunk takes {later} passes through the model"
        each += f", {begins} {first}" * (first != later)
        again, returns = self.again(plan), self.returns(plan).total()
        total = self.steps * plan.chunk_count + (self.first_steps - self.steps) * len(plan.plans)
        read = sum(map(plan.is_read, plan)) if plan.shots else plan.chunk_count - 1
        total += self.clean_pass * read + again + returns
        extra = {"for recache": again, "to remember scenes that come back": returns}
        told = ", ".join(f"{passes} of them {why}" for why, passes in extra.items() if passes)
        return f"{each}: {total} in all{f', {told}' * bool(told)}."

    def again(self, plan: Storyboard) -> int:
        """Passes by which recache remembers chunks once more."""
        if not plan.shots:
            return 0
        return sum(plan.is_read(chunk) and bool(plan.again(chunk)) for chunk in plan)

    def returns(self, plan: Storyboard) -> Counter[int]:
        """Passes by which each scene that comes back is remembered then, with its recaches."""
        passes: Counter[int] = Counter()
        if len(plan.plans) == 1:
            return passes
        for chunk in plan:
            for index in plan.recalled(chunk, parked=chunk.scene in self.parked):
                passes[chunk.scene] += 1 + bool(plan.again(plan.plans[chunk.scene].chunk(index)))
        return passes


def describe_plan(  # noqa: PLR0913  (one line of the report each)
    plan: Storyboard,
    *,
    length: int,
    weights_bytes: int,
    chunk_bytes: int,
    tiers: list[TierCost],
    cards: Sequence[str],
    passes: Passes,
    chunk_seconds: float | None = None,
    shots: Sequence[str] = (),
    scene_bytes: Sequence[int] = (),
    remarks: Iterable[str] = (),
    grid: Grid = WAN,
) -> str:
    """The report of a plan for a video of `length` video frames.

    Args:
        cards: what fits on this device and on others.
        chunk_seconds: what a chunk took in saved runs; None: there are none.
        shots: first words of each prompt of a film.
        scene_bytes: what each of its scenes holds in keys and values.
        remarks: what else to mind.
    """
    extra = passes.again(plan) + passes.returns(plan).total()
    chunks = plan.chunk_count + extra / (passes.steps + passes.clean_pass)
    lines = [_length(plan, grid), passes.of(plan), _time(chunks, chunk_seconds)]
    lines += [*_look_back(plan, grid), ""]
    if shots:
        lines += [*_shots(plan, shots, grid), *_scenes(plan, scene_bytes, passes, grid), ""]
    lines += [f"Weights: {gigabytes(weights_bytes)}. A chunk in work: {gigabytes(chunk_bytes)}."]
    lines += [_tier(tier) for tier in tiers]
    lines += ["", "Cards, if empty, and if a chunk takes there what it takes here:"]
    lines += [f"- {card}" for card in cards]
    warnings = [*remarks, *_warnings(plan, length, grid)]
    if warnings:
        lines += ["", "Mind:", *(f"- {warning}" for warning in warnings)]
    return "\n".join(lines)


def gigabytes(size: float) -> str:
    """Bytes for people: "13.5 GB", "40.2 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _length(plan: Storyboard, grid: Grid) -> str:
    video_frames = grid.length(plan.total_frames)
    return (
        f"{video_frames} frames, {video_frames / grid.fps:g} s at {grid.fps:g} fps, "
        f"in {plan.chunk_count} chunks of {plan.chunk_frames} latent frames."
    )


def _time(chunks: float, chunk_seconds: float | None) -> str:
    if chunk_seconds is None:
        return "Time: no saved run of this model, size and settings tells how long it takes."
    whole = chunks * chunk_seconds
    for unit, many in (("h", 3600), ("min", 60), ("s", 1)):
        if whole >= 2 * many or unit == "s":
            break
    return (
        f"Time: about {whole / many:.3g} {unit}, as saved runs of this model, size and settings "
        f"took {chunk_seconds:.3g} s a chunk; decoding comes on top."
    )


def _look_back(plan: Storyboard, grid: Grid) -> list[str]:
    last = plan.chunk(plan.chunk_count - 1)
    roles = last.roles
    parts = ", ".join(f"{count} {NAMES.get(role, role)}" for role, count in roles.sizes if count)
    lines = [
        f"The last chunk reads {roles.attended_frames} remembered latent frames: {parts or 'none'}."
    ]
    if roles.has_choice:
        ago = ", ".join(f"{grid.seconds(last.first_frame - frame):g}" for frame in roles.candidates)
        lines.append(f"Its history is chosen among the moments {ago} s ago.")
    return lines


def _shots(plan: Storyboard, words: Sequence[str], grid: Grid) -> Iterator[str]:
    """When each shot begins, how, and with which words."""
    yield "Shots:"
    several = len(plan.plans) > 1
    for number, shot in enumerate(plan.shots[SCENES]):
        seconds = grid.length(plan.chunk(shot.first_chunk).film_frame) / grid.fps
        begins: list[str] = [shot.transition] if number else []
        if shot.blend_seconds:
            begins = [f"blend {shot.blend_seconds:g} s"]
        if several:
            begins.append(f"scene {shot.scene + 1}")
        if shot.moment is not None:
            ends = grid.length(shot.moment), grid.length(shot.moment + 1) - 1
            told = dict.fromkeys(_told(video_frame / grid.fps) for video_frame in ends)
            begins.append(f"remembers {' to '.join(told)} s")
        how = f" ({', '.join(begins)})" if begins else ""
        yield f"- {_told(seconds)} s{how}: {words[shot.prompt]}"


def _scenes(plan: Storyboard, sizes: Sequence[int], passes: Passes, grid: Grid) -> Iterator[str]:
    """How long each scene is seen, and what it takes to hold."""
    if len(plan.plans) == 1:
        return
    returns = passes.returns(plan)
    back = {chunk.scene for chunk in plan if plan.recalled(chunk)}
    yield "Scenes, of which one is held at a time:"
    for scene, (own, size) in enumerate(zip(plan.plans, sizes, strict=True)):
        waits = "it waits in host memory" if scene in passes.parked else "only latents are kept"
        again = f"; while it is away {waits}, passes when it comes back: {returns[scene]}"
        yield (
            f"- scene {scene + 1}: {_told(grid.seconds(own.total_frames or 0))} s, "
            f"{gigabytes(size)} of keys and values{again * (scene in back)}"
        )


def _told(seconds: float) -> str:
    return f"{round(seconds, 2):.8g}"


def _tier(tier: TierCost) -> str:
    mark = "->" if tier.chosen else "  "
    where = f"{gigabytes(tier.device_bytes)} on the device"
    if tier.host_bytes:
        where += f", {gigabytes(tier.host_bytes)} in host memory"
    return f"{mark} {tier.name}: {where}{'' if tier.fits else ' (more than is free)'}"


def _warnings(plan: Storyboard, length: int, grid: Grid) -> list[str]:
    warnings = []
    video_frames = grid.length(plan.total_frames)
    if video_frames != length:
        warnings.append(
            f"length {length} is not {grid.video_frames}n + 1, so the video has {video_frames} "
            "frames."
        )
    surplus = -(plan.total_frames - plan.prefix_frames) % plan.chunk_frames
    if surplus:
        whole = grid.length(plan.total_frames + surplus)
        warnings.append(
            f"{plan.total_frames} latent frames are not whole chunks of {plan.chunk_frames}: "
            f"{surplus} more are made and cut off; length {whole} would keep them."
        )
    warnings += plan.policy.remarks(
        plan.total_frames,
        chooses=any(chunk.roles.has_choice for chunk in plan),
        frame_seconds=grid.seconds(1),
    )
    return warnings
