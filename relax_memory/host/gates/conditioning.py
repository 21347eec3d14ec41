"""What the entries of a CONDITIONING may carry.

A prompt comes with a dictionary to which nodes add what some model reads. A Wan 2.1 text-to-video
model reads none of the pictures, videos and sounds in it, and the host drops them without a word.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import comfy.hooks
import torch
from comfy.patcher_extension import WrappersMP, get_all_wrappers
from torch import Tensor

from .areas import FRAMES, check_area, check_covered
from .words import listed

Entry = tuple[Tensor | None, Mapping[str, Any]]

READ = {
    *("cross_attn", "start_percent", "end_percent", "clip_start_percent", "clip_end_percent"),
    *("area", "strength", "mask", "mask_strength", "set_area_to_bounds", "default", "hooks"),
    *("model_conds", "timestep_start", "timestep_end", FRAMES),
}
HARMLESS = {  # by-products of text encoders, sizes, and switches for what is refused
    *(
        "pooled_output",
        "attention_mask",
        "embeds_info",
        "uuid",
        "prompt_type",
        "cross_attn_controlnet",
    ),
    *("width", "height", "crop_w", "crop_h", "target_width", "target_height", "aesthetic_score"),
    *("control_apply_to_uncond", "reference_latents_method", "vace_strength", "concat_mask_index"),
    *("unclip_noise_augment_merge", "noise_augmentation", "audio_inject_scale"),
}
START_IMAGE = ("concat_latent_image", "concat_mask")
REFUSED = {
    "a control or reference": (
        *("control", "gligen", "vace_frames", "vace_mask", "camera_conditions", "control_video"),
        *("pose_video_latent", "face_video_pixels", "driving_mask_28ch", "ref_mask_28ch"),
        *("ref_mask_flag", "reference_latents", "reference_latents_text_embeds", "ref_latent"),
        *("context_latents", "time_dim_concat", "reference_motion", "keyframe_idxs"),
        *("guide_attention_entries", "minimax_refs", "minimax_keyframes", "additional_models"),
    ),
    "a picture that CLIP vision has looked at": (
        *("clip_vision_output", "clip_vision_outputs", "clip_vision_output_ref"),
        "unclip_conditioning",
    ),
    "sound": (
        *("audio_embed", "ref_audio", "reference_audio_timbre_latents", "audio_codes"),
        "conditioning_lyrics",
    ),
    "a picture for another model": (
        *("concat_image", "noise_concat", "time_dim_replace", "lq_latent", "guiding_frame_index"),
        "stable_cascade_prior",
    ),
}
WHAT = {key: what for what, keys in REFUSED.items() for key in keys}


def check_conditioning(
    name: str,
    entries: Iterable[Entry],
    *,
    text_dim: int,
    samples: int,
    size: tuple[int, int],
    frames: int,
) -> list[str]:
    """What of these entries takes no part, in sentences to be said.

    Args:
        entries: embeddings `[B, tokens, text_dim]` and their options, as the host pairs them.
        samples: videos of the run.
        size: height and width of a latent frame.
        frames: latent frames of the video.

    Raises:
        ValueError: not every chunk can be made with them, or they carry what would be dropped.
    """
    entries = list(entries)
    if not entries:
        raise ValueError(f"{name} conditioning is empty: connect a prompt.")
    unknown: set[str] = set()
    for embedding, options, *_ in entries:
        _check_embedding(name, embedding, text_dim, samples)
        _check_steps(name, options)
        _check_hooks(name, options)
        check_area(name, options, size)
        unknown.update(_unknown(name, options))
    check_covered(name, (options for _, options, *_ in entries), size, frames)
    if not unknown:
        return []
    return [
        f"{name} conditioning carries {listed(unknown)}, which this model does not read: it takes "
        "no part."
    ]


def _check_embedding(name: str, embedding: Tensor | None, text_dim: int, samples: int) -> None:
    if embedding is None or embedding.ndim != 3 or not embedding.numel():
        what = "no prompt" if embedding is None else f"a prompt of shape {list(embedding.shape)}"
        raise ValueError(
            f"{name} conditioning has {what}, but [samples, tokens, {text_dim}] is needed: "
            "connect CLIP Text Encode."
        )
    if embedding.shape[-1] != text_dim:
        raise ValueError(
            f"{name} conditioning is {embedding.shape[-1]} wide, but this model needs "
            f"{text_dim}: encode the prompt with umt5, in a CLIP loader of type wan."
        )
    if not torch.isfinite(embedding).all():
        raise ValueError(
            f"{name} conditioning holds NaN or infinite values: check the text encoder and "
            "its precision."
        )
    if samples % len(embedding):
        raise ValueError(
            f"{name} conditioning holds {len(embedding)} prompts, but batch_size is {samples}, so "
            f"not every prompt gets its videos: set batch_size to {len(embedding)}, or connect "
            "one prompt."
        )


def _check_steps(name: str, options: Mapping[str, Any]) -> None:
    start = max(options.get("start_percent", 0.0), options.get("clip_start_percent", 0.0))
    end = min(options.get("end_percent", 1.0), options.get("clip_end_percent", 1.0))
    if start > 0.0 or end < 1.0:
        raise ValueError(
            f"{name} conditioning holds only for steps {start:g} to {end:g}, but what is "
            "remembered must come from all of them: remove the start and end percentages."
        )


def _check_hooks(name: str, options: Mapping[str, Any]) -> None:
    group = options.get("hooks")
    for hook in group.hooks if group else ():
        if not isinstance(hook, comfy.hooks.WeightHook):
            raise ValueError(
                f"{name} conditioning carries a {type(hook).__name__}, but only hooks of LoRAs and "
                "model weights can be followed: remove it."
            )
        if len(hook.hook_keyframe.keyframes) > 1:
            raise ValueError(
                f"{name} conditioning carries a hook whose strength changes between steps, but "
                "what is remembered must come from one: remove the hook keyframes."
            )


def _unknown(name: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Keys that nobody knows; raises for those that are known not to be followed."""
    for key, value in options.items():
        if value is None or key in READ or key in HARMLESS:
            continue
        if key in START_IMAGE:
            raise ValueError(
                f"{name} conditioning carries a start image ({key}), which this sampler would "
                "drop: use Relax Forcing Sampler, which begins with it, or remove the node that "
                "adds it."
            )
        if key in WHAT:
            raise ValueError(
                f"{name} conditioning carries {WHAT[key]} ({key}), but a Wan 2.1 text-to-video "
                "model cannot follow it: connect the prompt without the node that adds it."
            )
        yield key


def skips_negative(cfg: float, model_options: dict) -> bool:
    """Whether the host leaves the negative conditioning out of every step.

    What wraps the guider may change its cfg from step to step, as the host's CFG Override does.
    """
    kind = WrappersMP.PREDICT_NOISE
    wrapped = bool(get_all_wrappers(kind, model_options, is_model_options=True))
    always = model_options.get("disable_cfg1_optimization", False) or wrapped
    return math.isclose(cfg, 1.0) and not always


def check_cfg(cfg: float, *, negative: list | None) -> None:
    """Raise ValueError where cfg needs a negative conditioning and there is none."""
    if negative is None and not math.isclose(cfg, 1.0):
        raise ValueError(
            f"cfg is {cfg:g}, but no negative conditioning is connected: connect one or set cfg to "
            "1.0 (causal checkpoints are made for 1.0)."
        )
