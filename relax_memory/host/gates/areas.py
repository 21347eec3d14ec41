"""Prompts for a part of the picture: which areas and masks a chunk can follow.

An area is `(height, width, y, x)` in latent pixels, or "percentage" with those as fractions, before
each of the two a fraction of time where the node is made for videos. Every entry is a stream with a
memory of its own, so one for a part of the picture remembers that part.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

PERCENTAGE = "percentage"


class Area(NamedTuple):
    """Height and width, then y and x, each pair after one of time where it is made for videos."""

    fractions: bool
    size: tuple[float, ...]
    place: tuple[float, ...]


def check_area(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an area or a mask that a chunk cannot follow."""
    area, mask = _area(options), _mask(options)
    if area is not None and area.fractions and len(area.size) == 3:
        temporal, z = area.size[0], area.place[0]
        if temporal < 1.0 or z > 0.0:
            raise ValueError(
                f"{name} conditioning holds only for a part of the film (temporal {temporal:g} "
                f"from z {z:g}), which chunks cannot follow: set temporal to 1 and z to 0, or make "
                "the parts one after the other with prefix."
            )
    if mask is None:
        return
    if options.get("set_area_to_bounds") or area is not None:
        raise ValueError(
            f"{name} conditioning has a mask with an area, which the host cannot apply to videos: "
            'set set_cond_area to "default" in Conditioning Set Mask and use no area.'
        )
    one_picture = mask.ndim in (3, 4) and mask.shape[-3] == 1
    if not one_picture or not mask.isfinite().all():
        raise ValueError(
            f"{name} conditioning has a mask of shape {list(mask.shape)}, but one picture that "
            "holds for the whole film is needed, [1, height, width]: choose one frame of it."
        )


def check_covered(name: str, entries: Iterable[Mapping[str, Any]], size: tuple[int, int]) -> None:
    """Raise ValueError if a part of the picture, of `size` in latent pixels, has no prompt."""
    covered = torch.zeros(size, dtype=torch.bool)
    for options in entries:
        if options.get("default") or options.get("strength", 1.0) == 0:
            covered |= bool(options.get("default"))
            continue
        covered |= _covers(options, size)
    if not covered.all():
        share = 100 - 100 * covered.float().mean().item()
        raise ValueError(
            f"{name} conditioning leaves {share:.0f} % of the picture without a prompt, which "
            "would stay grey: combine it with a prompt for the whole picture (Conditioning "
            "Combine), and use strengths above 0."
        )


def _covers(options: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
    area, mask = _area(options), _mask(options)
    if mask is not None:
        if options.get("mask_strength", 1.0) == 0:
            return torch.zeros(size, dtype=torch.bool)
        picture = mask.detach().float().cpu().reshape(-1, 1, *mask.shape[-2:])[:1]
        scaled = torch.nn.functional.interpolate(picture, size=size, mode="bilinear")
        return scaled[0, 0] != 0
    covered = torch.zeros(size, dtype=torch.bool)
    if area is None:
        return ~covered
    wholes = size if area.fractions else (1, 1)
    height, width = (round(s * whole) for s, whole in zip(area.size[-2:], wholes, strict=True))
    y, x = (round(p * whole) for p, whole in zip(area.place[-2:], wholes, strict=True))
    covered[y : y + max(1, height), x : x + max(1, width)] = True
    return covered


def in_videos(options: dict) -> dict:
    """Options whose area the host can apply to videos: fractions of a picture hold at all times."""
    area = _area(options)
    if area is None or not area.fractions or len(area.size) != 2:
        return options
    return options | {"area": (PERCENTAGE, 1.0, *area.size, 0.0, *area.place)}


def _area(options: Mapping[str, Any]) -> Area | None:
    area = options.get("area")
    if area is None:
        return None
    fractions = area[0] == PERCENTAGE
    sides = tuple(area[1:] if fractions else area)
    return Area(fractions, sides[: len(sides) // 2], sides[len(sides) // 2 :])


def _mask(options: Mapping[str, Any]) -> Tensor | None:
    return options.get("mask")
