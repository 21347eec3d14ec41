"""LoRAs for Wan models as patches of the host's patcher, also under names that the host skips.

LongLive and MemFlow publish theirs as PEFT names it, in a training file. Layers are found by the
end of their name; which kinds of LoRA there are and how they are applied stays the host's, and so
do strength, stacking, fp8 and offloading. Knows no memory and no family.
"""

import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import comfy.lora
import comfy.lora_convert
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter, WeightAdapterBase
from torch import Tensor

from .adapter_config import NAME as ALPHAS
from .adapter_config import configured_alphas
from .checkpoint import listed_path
from .identify import looks_like
from .layouts import from_diffusers
from .quantised import is_finite
from .weights import CHECKPOINT_KEYS, parts, pick, read, some, without_wrappers

FOLDER = "loras"
_NESTING = "generator_lora"
_PREFIX = "diffusion_model."
_TAIL = re.compile(r"\.(lora_|lora\.|lokr_|hada_|(alpha|diff|diff_b|dora_scale|set_weight)$)")
_ADAPTER = re.compile(r"(\.lora_[AB])\.[^.]+\.weight$")  # `default` in what training saves

logger = logging.getLogger(__name__)


def lora_names() -> list[str]:
    """Files in the host's folders for LoRAs, `.pt` among them."""
    return folder_paths.get_filename_list(FOLDER)


def load_lora(model: ModelPatcher, lora_name: str, strength: float) -> tuple[ModelPatcher, str]:
    """A clone of the model with a LoRA on it, and what was applied in words.

    Raises:
        ValueError: the file is no LoRA, or none for this model; the message says which layer.
    """
    path = listed_path(FOLDER, lora_name, "lora_name", "LoRAs")
    tensors, metadata = read(path, "lora_name")
    layers = comfy.lora.model_lora_keys_unet(model.model, {})
    lora = comfy.lora_convert.convert_lora(_as_the_host_names_it(_nested(tensors), layers))
    if not any(map(_TAIL.search, lora)):
        raise ValueError(
            f"lora_name '{lora_name}' looks like {_model_in_words(tensors, metadata)}, which is no "
            "LoRA: models belong in Relax Forcing Load Model."
        )
    configured = configured_alphas(Path(path), _ranks_without_alpha(lora))
    lora |= {f"{layer}.alpha": torch.tensor(alpha) for layer, alpha in configured.items()}
    try:
        patches = comfy.lora.load_lora(lora, layers)
    except KeyError as error:
        raise ValueError(
            f"lora_name '{lora_name}' lacks {error}, the other half of a layer: it was saved "
            "unfinished, so download it again."
        ) from error
    if not patches and (halves := {_layer(name) for name in lora} & layers.keys()):
        raise ValueError(
            f"lora_name '{lora_name}' lacks the other half of {min(halves)}: it was saved "
            "unfinished, so download it again."
        )
    if not patches:
        raise ValueError(
            f"lora_name '{lora_name}' has no layer of this model (it begins with "
            f"{next(iter(lora))}): it was made for another model, so choose one for Wan 2.1."
        )
    for key, patch in patches.items():
        _check(key, patch, comfy.utils.get_attr(model.model, key).shape, lora_name)
    patched = model.clone()
    patched.add_patches(patches, strength)
    left_out = sorted({_layer(name) for name in lora} - layers.keys())
    return patched, _words(patches, left_out, configured=bool(configured))


def _nested(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if _NESTING not in parts(tensors):
        return tensors
    start = f"{_NESTING}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _ranks_without_alpha(lora: Mapping[str, Tensor]) -> dict[str, int]:
    """By layer, of those that PEFT has named."""
    ranks = {_layer(name): len(a) for name, a in lora.items() if name.endswith(".lora_A.weight")}
    return {layer: rank for layer, rank in ranks.items() if f"{layer}.alpha" not in lora}


def _layer(name: str) -> str:
    tail = _TAIL.search(name)
    return name[: tail.start()] if tail else name


def _as_the_host_names_it(
    tensors: Mapping[str, Tensor], layers: Collection[str]
) -> dict[str, Tensor]:
    """The same tensors, those of a layer of the model under the name that the host maps to it."""
    named = {}
    for name, tensor in tensors.items():
        layer = _layer(name)
        words = from_diffusers(without_wrappers(layer)).split(".")
        ends = (_PREFIX + ".".join(words[start:]) for start in range(len(words)))
        end = next((end for end in ends if end in layers), layer)
        named[end + _ADAPTER.sub(r"\1.weight", name[len(layer) :])] = tensor
    return named


def _check(key: str, patch: WeightAdapterBase | tuple, needed: torch.Size, lora_name: str) -> None:
    """Raise ValueError unless the host can add the patch to a weight of this shape."""
    layer = key.removeprefix(_PREFIX).removesuffix(".weight")
    held = patch.weights if isinstance(patch, WeightAdapterBase) else patch[1]
    tensors = [tensor for tensor in held if isinstance(tensor, Tensor)]
    alphas = [torch.tensor(number) for number in held if isinstance(number, float)]
    if not all(map(is_finite, tensors + alphas)):
        raise ValueError(
            f"lora_name '{lora_name}' holds NaN or infinite values for {layer}: download it again."
        )
    fits = True
    if isinstance(patch, LoRAAdapter) and patch.weights[3] is patch.weights[5] is None:
        up, down = tensors[:2]
        made = len(up), down.shape[1:].numel()
        fits = made == (needed[0], needed[1:].numel()) and up.shape[1] == len(down)
    elif not isinstance(patch, WeightAdapterBase):
        fits = tensors[0].shape == needed
    if not fits:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors[:2])
        raise ValueError(
            f"lora_name '{lora_name}' does not fit this model: for {layer} it holds {shapes}, but "
            f"the model's weight is {tuple(needed)}; choose a LoRA for this size of Wan 2.1."
        )


def _model_in_words(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    held = [name for name in CHECKPOINT_KEYS if name in parts(tensors)]
    return looks_like(pick(tensors, held[0] if held else "auto", ""), metadata)


def _words(patches: Mapping[str, object], left_out: list[str], *, configured: bool) -> str:
    adapters = [patch for patch in patches.values() if isinstance(patch, LoRAAdapter)]
    ranks = sorted({len(adapter.weights[1]) for adapter in adapters})
    words = f"{len(patches)} weights changed"
    if ranks:
        words += f", rank {' to '.join(map(str, ranks[:: max(1, len(ranks) - 1)]))}"
        if any(adapter.weights[2] is None for adapter in adapters):
            words += " (alpha is not in the file: taken to be the rank)"
        elif configured:
            words += f" (alpha from {ALPHAS} beside the file)"
    if left_out:
        logger.warning("LoRA: left out %s", left_out)
        words += f"; left out, because the model has no such layer: {some(left_out)}"
    return words
