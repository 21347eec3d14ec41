"""Prompts for a part of the picture: which areas and masks a chunk can follow.

An area is `(height, width, y, x)` in latent pixels, or "percentage" with those as fractions, before
each of the two a fraction of time where the node is made for videos. Every entry is a stream with a
memory of its own, so one for a part of the picture remembers that part. One for a part of the time
is evaluated in the steps of the chunks that it touches; what it remembers is every chunk's, so that
it always knows the whole past.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

PERCENTAGE = "percentage"
ALL_FRAMES = 2**31  # as the host has it
FRAMES = "relax_forcing_frames"  # first and end, of an entry for a part of the time


class Area(NamedTuple):
    """Height and width, then y and x, each pair after one of time where it is made for videos."""

    fractions: bool
    size: tuple[float, ...]
    place: tuple[float, ...]


def check_area(name: str, options: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Raise ValueError for an area or a mask that a chunk cannot follow.

    Args:
        size: height and width of a latent frame.
    """
    area, mask = _area(options), _mask(options)
    if area is not None and _is_never(area):
        raise ValueError(
            f"{name} conditioning holds for no part of the film (temporal {area.size[0]:g} from z "
            f"{area.place[0]:g}): set temporal above 0 and z below 1."
        )
    if area is not None and options.get("default"):
        raise ValueError(
            f"{name} conditioning has a default prompt with an area, but a default holds wherever "
            "no other prompt does: take the area away, or use Conditioning Combine."
        )
    if area is not None:
        _check_inside(name, area, size)
    if mask is None:
        return
    if options.get("set_area_to_bounds") or area is not None:
        raise ValueError(
            f"{name} conditioning has a mask with an area, which the host cannot apply to videos: "
            'set set_cond_area to "default" in Conditioning Set Mask and use no area.'
        )
    if mask.ndim not in (3, 4) or mask.shape[-3] != 1 or not mask.numel():
        raise ValueError(
            f"{name} conditioning has a mask of shape {list(mask.shape)}, but one picture that "
            "holds for the whole film is needed, [1, height, width]: choose one frame of it."
        )
    least, most = (extreme.item() for extreme in mask.detach().aminmax())
    if not 0 <= least <= most < torch.inf:
        raise ValueError(
            f"{name} conditioning has a mask with values from {least:g} to {most:g}, but it says "
            "how much a prompt counts, from 0 to 1: mend what makes it."
        )


def check_covered(
    name: str, entries: Iterable[Mapping[str, Any]], size: tuple[int, int], frames: int
) -> None:
    """Raise ValueError if a part of the picture has no prompt at some time.

    Args:
        size: height and width of a latent frame.
        frames: latent frames of the video.
    """
    timed = [in_videos(dict(options), frames) for options in entries]
    changes = {0, *(frame for options in timed for frame in options.get(FRAMES, ()))}
    for frame in sorted(changes):
        covered = torch.zeros(size, dtype=torch.bool)
        for options in timed:
            first, end = options.get(FRAMES, (0, frames))
            if first <= frame < end:
                covered |= _covers(options, size)
        if frame < frames and not covered.all():
            share = 100 - 100 * covered.float().mean().item()
            since = f" from latent frame {frame} of {frames} on" if len(changes) > 1 else ""
            raise ValueError(
                f"{name} conditioning leaves {share:.0f} % of the picture without a prompt{since}, "
                "which would stay grey: combine it with a prompt for the whole picture and the "
                "whole film (Conditioning Combine), and use strengths above 0."
            )


def _covers(options: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
    area, mask = _area(options), _mask(options)
    strength = min(
        options.get("strength", 1.0), 1.0 if mask is None else options.get("mask_strength", 1.0)
    )
    if options.get("default") or strength == 0:
        return torch.full(size, bool(options.get("default")))
    if mask is not None:
        picture = mask.detach().float().cpu().reshape(-1, 1, *mask.shape[-2:])[:1]
        scaled = torch.nn.functional.interpolate(picture, size=size, mode="bilinear")
        return scaled[0, 0] != 0
    if area is None:
        return torch.ones(size, dtype=torch.bool)
    height, width, y, x = _box(area, size)
    covered = torch.zeros(size, dtype=torch.bool)
    covered[y : y + max(1, height), x : x + max(1, width)] = True
    return covered


def _check_inside(name: str, area: Area, size: tuple[int, int]) -> None:
    """Raise ValueError for an area that lies beside the picture."""
    _, _, *place = _box(area, size)
    for side, begins, whole in zip(("y", "x"), place, size, strict=True):
        if not 0 <= begins < whole:
            raise ValueError(
                f"{name} conditioning has an area that begins at {side} {begins}, beside the "
                f"picture of {size[1]}x{size[0]} in latent pixels: set a smaller {side}."
            )


def _box(area: Area, size: tuple[int, int]) -> tuple[int, ...]:
    """Height, width, y and x in latent pixels."""
    sides = (*area.size[-2:], *area.place[-2:])
    wholes = (*size, *size) if area.fractions else (1, 1, 1, 1)
    return tuple(round(side * whole) for side, whole in zip(sides, wholes, strict=True))


def in_videos(options: dict, frames: int) -> dict:
    """Options whose area the host can apply to the chunks of a video of so many latent frames.

    Fractions of a picture hold at all times, and a part of the time is kept as `FRAMES`. Areas in
    pixels get a time too, as all have in videos: the host cannot compare the two kinds.
    """
    area = _area(options)
    if area is not None and not area.fractions and len(area.size) == 2:
        return options | {"area": (ALL_FRAMES, *area.size, 0, *area.place)}
    if area is None or not area.fractions or _is_never(area):
        return options
    height, width = area.size[-2:]
    everywhere = options | {"area": (PERCENTAGE, 1.0, height, width, 0.0, *area.place[-2:])}
    if not _is_timed(area):
        return everywhere
    first = min(round(area.place[0] * frames), frames - 1)
    return everywhere | {FRAMES: (first, first + max(1, round(area.size[0] * frames)))}


def _is_never(area: Area) -> bool:
    return _is_timed(area) and (area.size[0] <= 0.0 or area.place[0] >= 1.0)


def _is_timed(area: Area) -> bool:
    """Whether it leaves out a part of the time."""
    return area.fractions and len(area.size) == 3 and (area.size[0] < 1.0 or area.place[0] > 0.0)


def _area(options: Mapping[str, Any]) -> Area | None:
    area = options.get("area")
    if area is None:
        return None
    fractions = area[0] == PERCENTAGE
    sides = tuple(area[1:] if fractions else area)
    return Area(fractions, sides[: len(sides) // 2], sides[len(sides) // 2 :])


def _mask(options: Mapping[str, Any]) -> Tensor | None:
    return options.get("mask")
