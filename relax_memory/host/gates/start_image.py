"""A start image as other nodes give it, made the prefix of the video.

The host's image-to-video nodes put the encoded picture, followed by grey, into both conditionings,
with a mask of the latent frames that are given (0) and to be made (1). The encoder is causal, so
the given frames are bit for bit those of the picture encoded alone. For autoregressive models the
host has a node that puts the encoded picture into the MODEL.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...grid import WAN
from .conditioning import START_IMAGE

PICTURE, MASK = START_IMAGE
ROUNDING = 1e-5


def start_image(
    model: ModelPatcher, conditionings: Mapping[str, list | None]
) -> tuple[str, Tensor] | None:
    """The one picture to begin with and the input that carries it; None where there is none.

    Returns:
        Its latent frames `[1 or B, 16, P, H/8, W/8]`.

    Raises:
        ValueError: several that differ, or one that asks for more than a beginning.
    """
    found = list(_in_model(model))
    for name, entries in conditionings.items():
        for _, options, *_ in entries or ():
            found += _in_options(name, options)
    if not found:
        return None
    name, first = found[0]
    for other, frames in found[1:]:
        if frames.shape != first.shape or not torch.equal(frames, first):
            raise ValueError(
                f"{name} and {other} carry start images that differ: give the video one picture "
                "to begin with."
            )
    return name, first


def without_start_image(entries: list) -> list:
    """A conditioning as it was before a start image was added."""
    return [
        [embedding, {k: v for k, v in options.items() if k not in START_IMAGE}, *rest]
        for embedding, options, *rest in entries
    ]


def in_model(model: ModelPatcher) -> Tensor | None:
    """What the host's AR Video I2V node puts into a MODEL."""
    config = model.model_options.get("transformer_options", {}).get("ar_config") or {}
    return config.get("initial_latent")


def _in_model(model: ModelPatcher) -> Iterator[tuple[str, Tensor]]:
    frames = in_model(model)
    if frames is not None:
        yield "model", frames


def _in_options(name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    picture, mask = options.get(PICTURE), options.get(MASK)
    if picture is None and mask is None:
        return
    if picture is None or mask is None or picture.ndim != 5 or mask.ndim != 5:
        raise ValueError(
            f"{name} conditioning carries {MASK if picture is None else PICTURE} as another model "
            "reads it: for a start image use Wan Image To Video, or connect VAE Encode to prefix."
        )
    if picture.shape[1] != WAN.channels or mask.shape[2] != picture.shape[2]:
        raise ValueError(
            f"{name} conditioning carries pictures of shape {list(picture.shape)} with a mask of "
            f"shape {list(mask.shape)}, but a start image has {WAN.channels} channels "
            "and a mask of as many frames: control videos and pictures for other models cannot be "
            "followed, so connect the prompt without them."
        )
    given = _given_frames(name, mask)
    _check_no_tracks(name, picture, given)
    if given:
        yield name, picture[:, :, :given]


def _given_frames(name: str, mask: Tensor) -> int:
    """How many latent frames a mask marks as given, from the beginning."""
    frames = mask.float().movedim(2, 0).flatten(1)
    given, made = (frames == 0).all(1).tolist(), (frames == 1).all(1).tolist()
    count = (given + [False]).index(False)
    if not all(made[count:]):
        raise ValueError(
            f"{name} conditioning carries pictures whose mask (concat_mask) marks more than the "
            f"first {count} latent frames, such as an end image, parts of a picture or motion: "
            "only a beginning can be given, so use Wan Image To Video with a start image."
        )
    return count


def _check_no_tracks(name: str, picture: Tensor, given: int) -> None:
    """Raise ValueError where parts of the first frame lie in frames that are to be made."""
    sources = picture[:, :, 0].flatten(2).mT.float()
    scale = sources.abs().amax()
    for frame in range(max(1, given), picture.shape[2] if scale else 0):
        places = picture[:, :, frame].flatten(2).mT.float()
        if torch.cdist(places, sources).amin() <= ROUNDING * scale:
            raise ValueError(
                f"{name} conditioning carries tracks along which parts of its start image are to "
                "move (Wan Move Track To Video), but a Wan 2.1 text-to-video model cannot follow "
                "them: use Wan Image To Video."
            )
