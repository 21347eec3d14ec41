"""A plan in words: how long, what is looked back at, what it costs, what to mind.

Knows no tensors and no host; bytes come in as numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..grid import WAN, Grid
from ..storyboard import Storyboard


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
    """How often a chunk goes through the model: its steps, and a clean pass to be remembered."""

    first_steps: int
    steps: int
    clean_pass: bool = True

    def of(self, plan: Storyboard) -> str:
        """In words; the last chunk of a video is not remembered."""
        first, later = self.first_steps + self.clean_pass, self.steps + self.clean_pass
        total = first + later * (plan.chunk_count - 1) - self.clean_pass
        each = f"A chunk takes {later} passes through the model"
        return f"{each}{f', the first one {first}' * (first != later)}: {total} in all."


def describe_plan(  # noqa: PLR0913  (one line of the report each)
    plan: Storyboard,
    *,
    length: int,
    weights_bytes: int,
    chunk_bytes: int,
    tiers: list[TierCost],
    passes: Passes,
    chunk_seconds: float | None = None,
    remarks: Iterable[str] = (),
    grid: Grid = WAN,
) -> str:
    """The report of a plan for a video of `length` video frames.

    Args:
        chunk_seconds: what a chunk took in saved runs; None: there are none.
        remarks: what else to mind.
    """
    lines = [_length(plan, grid), passes.of(plan), _time(plan, chunk_seconds)]
    lines += [*_look_back(plan, grid), ""]
    lines += [f"Weights: {gigabytes(weights_bytes)}. A chunk in work: {gigabytes(chunk_bytes)}."]
    lines += [_tier(tier) for tier in tiers]
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


def _time(plan: Storyboard, chunk_seconds: float | None) -> str:
    if chunk_seconds is None:
        return "Time: no saved run of this model, size and settings tells how long it takes."
    whole = plan.chunk_count * chunk_seconds
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
    parts = ", ".join(f"{count} {role}" for role, count in roles.sizes if count)
    lines = [
        f"The last chunk reads {roles.attended_frames} remembered latent frames: {parts or 'none'}."
    ]
    if roles.has_choice:
        ago = ", ".join(f"{grid.seconds(last.first_frame - frame):g}" for frame in roles.candidates)
        lines.append(f"Its history is chosen among the moments {ago} s ago.")
    return lines


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
