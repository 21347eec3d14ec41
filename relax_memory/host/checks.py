"""Checks that both ways of sampling share, made before the model runs; messages are for users."""

import math
from collections.abc import Iterable, Mapping

import torch
from comfy.patcher_extension import WrappersMP, get_all_wrappers
from torch import Tensor

LATENT_CHANNELS = 16
MULTIPLE = 16  # pixels


def check_conditioning(
    name: str, entries: Iterable[tuple[Tensor | None, Mapping[str, object]]], *, text_dim: int
) -> None:
    """Raise ValueError unless every chunk can be made with these embeddings.

    Args:
        entries: embeddings `[B, tokens, text_dim]` and their options, as the host pairs them.
    """
    entries = list(entries)
    if not entries:
        raise ValueError(f"{name} conditioning is empty: connect a prompt.")
    for embedding, options in entries:
        if embedding is not None and embedding.shape[-1] != text_dim:
            raise ValueError(
                f"{name} conditioning is {embedding.shape[-1]} wide, but this model needs "
                f"{text_dim}: encode the prompt with umt5, in a CLIP loader of type wan."
            )
        if embedding is not None and not torch.isfinite(embedding).all():
            raise ValueError(
                f"{name} conditioning holds NaN or infinite values: check the text encoder and "
                "its precision."
            )
        start, end = options.get("start_percent", 0.0), options.get("end_percent", 1.0)
        if start > 0.0 or end < 1.0:
            raise ValueError(
                f"{name} conditioning holds only for steps {start:g} to {end:g}, but what is "
                "remembered must come from all of them: remove the start and end percentages."
            )


def skips_negative(cfg: float, model_options: Mapping[str, object]) -> bool:
    """Whether the host leaves the negative conditioning out of every step.

    What wraps the guider may change its cfg from step to step, as the host's CFG Override does.
    """
    kind = WrappersMP.PREDICT_NOISE
    wrapped = bool(get_all_wrappers(kind, model_options, is_model_options=True))
    always = model_options.get("disable_cfg1_optimization", False) or wrapped
    return math.isclose(cfg, 1.0) and not always


def check_size(width: int, height: int) -> None:
    """Raise ValueError unless pictures of this size are whole patches of whole latents."""
    for name, value in (("width", width), ("height", height)):
        if value < MULTIPLE or value % MULTIPLE:
            near = max(MULTIPLE, round(value / MULTIPLE) * MULTIPLE)
            raise ValueError(f"{name} is {value}, but Wan needs a multiple of 16: use {near}.")


def check_sigmas(sigmas: Tensor) -> None:
    """Raise ValueError unless the noise levels descend and end in 0."""
    levels = sigmas.tolist()
    descends = all(a > b for a, b in zip(levels, levels[1:], strict=False))
    if len(levels) < 2 or not descends or levels[-1] != 0:
        raise ValueError(
            f"sigmas are {[round(level, 4) for level in levels]}, but they must descend and "
            "end in 0, as 1.0, 0.9375, 0.8333, 0.625, 0 does."
        )


def check_latent(latents: Tensor) -> None:
    """Raise ValueError unless these are latents of a Wan 2.1 video."""
    if latents.ndim != 5 or latents.shape[1] != LATENT_CHANNELS:
        raise ValueError(
            f"latent_image has shape {list(latents.shape)}, but chunked sampling needs a video "
            f"[batch, {LATENT_CHANNELS}, frames, height / 8, width / 8]: use an empty Wan 2.1 "
            "video latent."
        )
