"""What a LATENT may carry, and how large the pictures of a video may be."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...grid import Grid
from ..film.cuts import OURS
from .words import listed

HARMLESS = {
    *("samples", "batch_index", "downscale_ratio_spacial", "downscale_ratio_temporal"),
}


def prefix_of(latent: Mapping[str, Any]) -> tuple[Tensor, list[str]]:
    """The latents `[B, 16, P, H/8, W/8]` of `prefix`, and what of it takes no part, to be said.

    Raises:
        ValueError: not the latents of a video, or a part of them only.
    """
    samples = latent["samples"]
    kind = latent.get("type")
    if getattr(samples, "is_nested", False) or kind is not None:
        what = f"latents of {kind}" if kind else "several latents in one"
        raise ValueError(
            f"prefix holds {what}, but the latents of one video are needed: encode a picture or "
            "video with the Wan 2.1 VAE."
        )
    if samples.ndim == 5 and not samples.numel():
        raise ValueError(
            f"prefix is of shape {list(samples.shape)}, so it holds no frames: look at the node "
            "before it, which has cut all of them away."
        )
    mask = latent.get("noise_mask")
    if mask is not None and not (mask == 1).all():
        raise ValueError(
            "prefix has a noise mask, but a video continues from all of its prefix: use latents "
            "without a mask, cut to the frames to keep."
        )
    unknown = latent.keys() - HARMLESS - OURS - {"noise_mask", "type"}
    if unknown:
        return samples, [f"prefix carries {listed(unknown)}, which takes no part."]
    return samples, []


def check_not_empty(prefix: Tensor) -> None:
    """Raise ValueError if a frame of these latents `[B, C, P, h, w]` is an empty one."""
    empty = (prefix == 0).all(dim=4).all(dim=3).all(dim=1)
    if empty.any():
        sample, frame = torch.nonzero(empty)[0].tolist()
        raise ValueError(
            f"prefix is empty (all zeros) from latent frame {frame} of sample {sample}, so the "
            "video would begin grey: connect the latents of a picture or video (VAE Encode), or "
            "leave prefix unconnected."
        )


def check_latent(latents: Tensor, grid: Grid) -> None:
    """Raise ValueError unless these are latents of a Wan 2.1 video."""
    if latents.ndim != 5 or latents.shape[1] != grid.channels or not latents.numel():
        raise ValueError(
            f"latent_image has shape {list(latents.shape)}, but chunked sampling needs a video "
            f"[batch, {grid.channels}, frames, height / {grid.pixels}, width / {grid.pixels}]: use "
            "an empty Wan 2.1 video latent."
        )


def check_size(width: int, height: int, grid: Grid) -> None:
    """Raise ValueError unless pictures of this size are whole patches of whole latents."""
    for name, value in (("width", width), ("height", height)):
        if value < grid.multiple or value % grid.multiple:
            near = max(1, round(value / grid.multiple)) * grid.multiple
            raise ValueError(
                f"{name} is {value}, but Wan needs a multiple of {grid.multiple}: use {near}."
            )
