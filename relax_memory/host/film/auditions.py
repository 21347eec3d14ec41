"""A few pictures of each video of a batch, for a sheet; only these are kept of what is decoded."""

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.sd
import numpy as np
from comfy.utils import ProgressBar
from torch import Tensor

from ...grid import WAN
from ...picture.contact import PICTURES, Audition, draw_sheet
from ...scenes import Film
from .cuts import pieces_of, take_of
from .decode import check_decodable, decode_video


def contact_sheet(vae: comfy.sd.VAE, latents: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """A sheet of all videos of these LATENTs: uint8 `[height, width, 3]`.

    Videos are numbered on from 1; those that another node has taken from one batch have their
    numbers there.

    Raises:
        ValueError: what cannot be decoded.
    """
    for latent in latents:
        check_decodable(vae, latent["samples"])
    progress = ProgressBar(sum(len(x["samples"]) * x["samples"].shape[2] for x in latents))
    shown: list[Audition] = []
    for latent in latents:
        seed, pieces = take_of(latent).seed, pieces_of(latent)
        samples = latent["samples"].split(1)
        numbers = range(len(shown), len(shown) + len(samples))
        if len(latents) == 1 and len(latent.get("batch_index", ())) == len(samples):
            numbers = latent["batch_index"]
        for number, sample in zip(numbers, samples, strict=True):
            pictures = _pictures(vae, sample, progress, pieces)
            known = None if seed < 0 else seed
            shown.append(Audition(number=number + 1, seed=known, pictures=pictures))
    return draw_sheet(shown)


def _pictures(
    vae: comfy.sd.VAE, sample: Tensor, progress: ProgressBar, pieces: Film
) -> list[np.ndarray]:
    """The first, the last and those between at equal distances, of one video `[1, C, T, h, w]`."""
    last = WAN.length(sample.shape[2]) - 1
    wanted = sorted({round(last * part / (PICTURES - 1)) for part in range(PICTURES)})
    found, begun = [], 0
    for images in decode_video(vae, sample, progress, pieces):
        end = begun + len(images)
        found += [images[i - begun].cpu().numpy().copy() for i in wanted if begun <= i < end]
        begun = end
    return found
