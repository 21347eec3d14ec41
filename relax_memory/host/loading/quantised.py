"""Whether what a file stores and what the host made of it are the same weights.

The host copies a tensor into its place whatever its kind: integers or fp8 without their scale, NaN.
None of it fails, and the video is noise. So the file is checked before it is loaded, and the model
afterwards, for what of the file it took. Knows no file layout and no family.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import cast

import comfy.quant_ops
import comfy.utils
import torch
from torch import Tensor

MARK = "comfy_quant"
_NUMBERS = (  # kinds of which each number is a weight
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
)
_PACKED = (torch.uint8, torch.int8)  # several numbers in a byte, so their shape says nothing
_SCALE = re.compile(r"scale|absmax|zero_?point|quant")
_NAN = {torch.float8_e4m3fn: 127, torch.float8_e5m2: 124}  # lowest bits, apart from the sign
_WEIGHT_SCALES = ("weight_scale", "weight_scale_2")
_SAME_RESULT = ("input_scale", "scale_input", "pre_quant_scale")  # of a layer that the host scales
_HELP = "the video would be noise: use a file repackaged for ComfyUI, or one in bf16"


def layer(name: str) -> str:
    return name.rpartition(".")[0]


def is_newer_hosts(name: str) -> bool:
    """Whether this is a setting that newer hosts keep beside weights (`comfy_attention.config`)."""
    return any(word.startswith("comfy_") for word in name.split("."))


def with_marks(
    weights: dict[str, Tensor], metadata: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights with the host's marks instead of what older files say, and the metadata.

    `scaled_fp8` does not say which fp8; the host takes all for e4m3, which has no room for e5m2.
    """
    before = {name for name in weights if name.endswith(MARK)}
    says_which = "_quantization_metadata" in metadata
    weights, metadata = comfy.utils.convert_old_quants(weights, metadata=metadata)
    made = [name for name in weights if name.endswith(MARK) and name not in before]
    for name in [] if says_which else made:
        stored = weights.get(f"{layer(name)}.weight")
        if stored is not None and stored.dtype == torch.float8_e5m2:
            mark = json.loads(weights[name].numpy().tobytes()) | {"format": "float8_e5m2"}
            weights[name] = torch.frombuffer(
                bytearray(json.dumps(mark).encode()), dtype=torch.uint8
            )
    return weights, metadata


def check_metadata(metadata: Mapping[str, str], file: str) -> None:
    """Raise ValueError unless the host can read what a file says of itself."""
    for name, inside in (("config", "transformer"), ("_quantization_metadata", "layers")):
        try:
            told = json.loads(metadata.get(name, "{}"))
        except ValueError:
            told = None
        if not isinstance(told, dict) or not isinstance(told.get(inside, {}), dict):
            raise ValueError(
                f"model_name '{file}' says in its metadata ({name}) what ComfyUI cannot read, "
                f"{metadata[name][:40]!r}: use a file repackaged for ComfyUI."
            )


def check_stored(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: str) -> None:
    """Raise ValueError unless all weights are numbers as they are, or marked as the host marks.

    Args:
        expected: the model's own weights by name; those that are missing are not looked at.
    """
    for name in weights:
        if name.rpartition(".")[2] == MARK:
            _check_mark(name, weights, file)
    for name, own in expected.items():
        stored = weights.get(name)
        if stored is None:
            continue
        marked = f"{layer(name)}.{MARK}" in weights and name.endswith(".weight")
        if stored.layout is not torch.strided or stored.is_meta:
            kind = "no numbers" if stored.is_meta else "a sparse matrix"
            raise ValueError(
                f"model_name '{file}' holds {kind} as {name}, which ComfyUI cannot load: use a "
                "file repackaged for ComfyUI."
            )
        if not marked and stored.dtype not in _NUMBERS:
            raise ValueError(
                f"model_name '{file}' holds {name} as {_words(stored)} without saying how these "
                f"numbers were made from weights, so {_HELP}."
            )
        if stored.shape != own.shape and not (marked and stored.dtype in _PACKED):
            raise ValueError(
                f"model_name '{file}' has {name} in shape {tuple(stored.shape)}, but the model "
                f"needs {tuple(own.shape)}: the file was saved in another layout (training shards, "
                "for instance), so use one repackaged for ComfyUI."
            )


def check_loaded(network: torch.nn.Module, stored: Mapping[str, Tensor], file: str) -> None:
    """Raise ValueError unless the model took all that the file holds for its layers, as numbers.

    Args:
        stored: what the file holds, by the host's names; only shapes and kinds count.
    """
    loaded = network.state_dict()
    for name, tensor in stored.items():
        same = name.endswith(_SAME_RESULT) and f"{layer(name)}.{MARK}" in stored
        if name not in loaded and not same and _is_for_a_layer(name, network, loaded):
            raise ValueError(
                f"model_name '{file}' holds {name} ({_words(tensor)}), which ComfyUI does not "
                f"apply: it needs a mark in the file (scaled_fp8 or {MARK}) that says how, so "
                f"{_HELP}."
            )
    for name, tensor in loaded.items():
        if not tensor.dtype.is_floating_point:
            continue
        if not is_finite(tensor):
            raise ValueError(
                f"model_name '{file}' gives {name} NaN or infinite values ({_words(tensor)}), so "
                "the video would be black: download it again, and leave weight_dtype at default."
            )
        numbers = tensor.view(torch.uint8) if tensor.dtype.itemsize == 1 else tensor
        if (tensor.ndim > 1 or name.endswith(_WEIGHT_SCALES)) and not numbers.any():
            raise ValueError(
                f"model_name '{file}' gives {name} nothing but zeros ({_words(tensor)}), as an "
                "unfinished download does: download it again."
            )


def stray(name: str, weights: Collection[str]) -> str | None:
    """What stands in a file in the place of a missing weight, if anything does."""
    for other in weights:
        beside = layer(other) == layer(name) and not other.endswith((".weight", ".bias"))
        if beside or other.startswith(f"{name}."):
            return other
    return None


def _check_mark(name: str, weights: Mapping[str, Tensor], file: str) -> None:
    try:
        kind = json.loads(weights[name].numpy().tobytes())["format"]
    except (ValueError, TypeError, KeyError):
        kind = None
    known = comfy.quant_ops.QUANT_ALGOS
    if kind not in known:
        raise ValueError(
            f"model_name '{file}' says in {name} that it is quantised as '{kind}', but this "
            f"ComfyUI knows {', '.join(known)}: update ComfyUI or use another file."
        )
    stored = weights.get(f"{layer(name)}.weight")
    if stored is not None and stored.dtype != known[kind]["storage_t"]:
        raise ValueError(
            f"model_name '{file}' holds {layer(name)}.weight as {_words(stored)}, but {name} says "
            f"'{kind}', so {_HELP}."
        )
    parameters = cast(set[str], known[kind]["parameters"])
    for scale in sorted(parameters & set(_WEIGHT_SCALES)):
        if stored is not None and f"{layer(name)}.{scale}" not in weights:
            raise ValueError(
                f"model_name '{file}' lacks {layer(name)}.{scale}, the scale of a weight that is "
                f"quantised as '{kind}', so {_HELP}."
            )


def _is_for_a_layer(name: str, network: torch.nn.Module, loaded: Collection[str]) -> bool:
    """Whether a tensor stands inside a layer of the model, or scales something inside the model."""
    if is_newer_hosts(name):
        return False
    modules = dict(network.named_modules())
    inside = [name[:end] for end, sign in enumerate(name) if sign == "."]
    layers = (place for place in inside if place in modules and not list(modules[place].children()))
    if any(place in loaded for place in inside) or any(layers):
        return True
    elsewhere = _SCALE.search(name) and name.partition(".")[2]  # scales.blocks.0.self_attn.q
    if elsewhere and f"{elsewhere.removesuffix('.weight')}.weight" in loaded:
        return True
    return any(place in modules for place in inside) and _SCALE.search(name) is not None


def is_finite(tensor: Tensor) -> bool:
    """Whether it holds no NaN and nothing infinite; reads it once, without a copy of its size."""
    if tensor.numel() == 0:
        return True
    if tensor.dtype in _NAN:  # has no minimum of its own
        return int((tensor.view(torch.uint8) & 127).amax()) < _NAN[tensor.dtype]
    if tensor.dtype.itemsize == 1:
        tensor = tensor.float()
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _words(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
