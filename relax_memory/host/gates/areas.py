"""Prompts for a part of the picture: which areas and masks a chunk can follow.

An area is `(height, width, y, x)` in latent pixels, or "percentage" with those as fractions, before
each of the two a fraction of time where the node is made for videos. Every entry is a stream with a
memory of its own, so one for a part of the picture remembers that part.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

PERCENTAGE = "percentage"


def check_area(name: str, options: Mapping[str, object]) -> None:
    """Raise ValueError for an area or a mask that a chunk cannot follow."""
    area, mask = options.get("area"), options.get("mask")
    if area is not None and len(area) == 7 and (area[1] < 1.0 or area[4] > 0.0):
        raise ValueError(
            f"{name} conditioning holds only for a part of the film (temporal {area[1]:g} from z "
            f"{area[4]:g}), which chunks cannot follow: set temporal to 1 and z to 0, or make the "
            "parts one after the other with prefix."
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


def check_covered(
    name: str, entries: Iterable[Mapping[str, object]], size: tuple[int, int]
) -> None:
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


def _covers(options: Mapping[str, object], size: tuple[int, int]) -> Tensor:
    mask, area = options.get("mask"), options.get("area")
    if mask is not None:
        if options.get("mask_strength", 1.0) == 0:
            return torch.zeros(size, dtype=torch.bool)
        picture = mask.detach().float().cpu().reshape(-1, 1, *mask.shape[-2:])[:1]
        scaled = torch.nn.functional.interpolate(picture, size=size, mode="bilinear")
        return scaled[0, 0] != 0
    covered = torch.zeros(size, dtype=torch.bool)
    if area is None:
        return ~covered
    if area[0] == PERCENTAGE:
        half = (len(area) - 1) // 2
        fractions = [*area[half - 1 : half + 1], *area[-2:]]
        sides = (*size, *size)
        area = [round(f * side) for f, side in zip(fractions, sides, strict=True)]
    height, width, y, x = (*area[len(area) // 2 - 2 : len(area) // 2], *area[-2:])
    covered[y : y + max(1, height), x : x + max(1, width)] = True
    return covered


def in_videos(options: dict) -> dict:
    """Options whose area the host can apply to videos: fractions of a picture hold at all times."""
    area = options.get("area")
    if area is None or area[0] != PERCENTAGE or len(area) != 5:
        return options
    _, height, width, y, x = area
    return options | {"area": (PERCENTAGE, 1.0, height, width, 0.0, y, x)}
