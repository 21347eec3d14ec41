"""What a file of weights holds, in words for the person who chose it.

The host's own detection decides. The marks below only name files that are no diffusion model at
all, or are one in a form that the host cannot build.
"""

import re
from collections.abc import Mapping

import comfy.model_detection
from torch import Tensor

from .quantised import stray

TEXT_TO_VIDEO = "a Wan 2.1 text-to-video model"

_LORA = re.compile(r"lora_(unet|te|up|down|A|B)|\.(lokr|hada)_|\.dora_scale$|\.diff(_b)?$")

_MARKS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^condition_embedder\.", "a part of a Wan model in the diffusers layout"),
        (r"^vace_blocks\.", "a VACE module without its base model"),
        (r"^blocks\.\d+\.self_attn\.", "a part of a Wan model, without head.modulation"),
        (r"(^|\.)(control_model|controlnet\w*|input_hint_block)\.", "a ControlNet"),
        (r"(^|\.)decoder\.(conv|mid|up|\d)", "a VAE"),
        (r"(^|\.)(encoder\.block|token_embedding|embed_tokens|text_model)\.", "a text encoder"),
        (r"(^|\.)(vision_model|visual)\.", "a vision encoder"),
    )
)

_WAN_READ_BY_HOST = ("head.head.weight", "patch_embedding.weight", "blocks.0.ffn.0.weight")
_WAN_TYPES = {
    "i2v": "image-to-video",
    "t2v": "text-to-video",
    "vace": "VACE",
    "camera": "camera control",
    "camera_2.2": "camera control",
    "s2v": "sound-to-video",
    "humo": "HuMo",
    "animate": "Animate",
}


def looks_like(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """`TEXT_TO_VIDEO` for such a model in the host's key layout, else words for what it is."""
    if any(".base_layer." in name for name in weights):
        return (
            "a model with a LoRA beside it that was never merged (PEFT: base_layer, lora_A and "
            "lora_B), which merge_and_unload() of PEFT turns into plain weights"
        )
    if any(map(_LORA.search, weights)):
        return "a LoRA, which belongs in Relax Forcing Load LoRA after this node"
    if "head.modulation" in weights:
        return _wan(weights, metadata)
    try:
        config = comfy.model_detection.model_config_from_unet(weights, "", metadata=metadata)
    except Exception:  # a fragment of another model can trip the host's detection in any way
        config = None
    if config is not None:
        return f"a diffusion model of the kind {type(config).__name__}"
    for mark, words in _MARKS:
        if any(map(mark.search, weights)):
            return words
    if not weights:
        return "a file without weights"
    return f"something unknown (it begins with {', '.join(list(weights)[:3])})"


def _wan(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    missing = [name for name in _WAN_READ_BY_HOST if name not in weights]
    if missing:
        if instead := stray(missing[-1], weights):
            return f"a Wan model quantised in a way that ComfyUI does not know ({instead})"
        return f"a part of a Wan model, without {', '.join(missing)}"
    if weights["patch_embedding.weight"].ndim != 5:
        return "a Wan model in pieces of flattened weights, as training saves them"
    config = comfy.model_detection.detect_unet_config(weights, "", metadata=metadata)
    kind, channels = config["model_type"], (config["in_dim"], config["out_dim"])
    if kind == "t2v" and channels == (16, 16) and "in_dim_ref_conv" not in config:
        return TEXT_TO_VIDEO
    if kind == "t2v" and channels == (48, 48):
        return "a Wan 2.2 5B model"
    if kind == "t2v" and channels == (36, 16):
        return "a Wan 2.2 image-to-video model"
    words = _WAN_TYPES.get(kind, kind)
    return f"a Wan {words} model with {channels[0]} input and {channels[1]} output channels"
