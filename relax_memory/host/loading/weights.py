"""The weights in a file: read without running anything, and named as the host names them.

Knows no model: whether the weights are the right ones is asked elsewhere.
"""

import os
import pickle
import re
import textwrap
import zipfile
from collections.abc import Iterator, Mapping

import comfy.utils
import torch
from torch import Tensor

CHECKPOINT_KEYS = ("auto", "generator_ema", "generator", "model")

# Training puts wrappers anywhere into a name, and saving puts prefixes before it.
_WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module")
_PREFIXES = ("model.", "diffusion_model.")


def read(path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file by dotted name, and the metadata of a safetensors file.

    Raises:
        ValueError: the file is empty, damaged, or a pickle of more than plain values.
    """
    file = os.path.basename(path)
    if os.path.getsize(path) == 0:
        raise ValueError(f"model_name '{file}' is empty (0 bytes): download it again.")
    try:
        if path.lower().endswith((".safetensors", ".sft")):
            content, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
        else:
            content, metadata = _load_pickle(path), None
        return dict(_tensors(content)), metadata or {}
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(_refused(file, error)) from None  # its text advises to read it unsafely
    except Exception as error:
        reason = textwrap.shorten(str(error), 100) or type(error).__name__
        raise ValueError(
            f"model_name '{file}' cannot be read ({reason}): if it is damaged or cut short, "
            "download it again."
        ) from error


def pick(tensors: Mapping[str, Tensor], checkpoint_key: str, file: str) -> dict[str, Tensor]:
    """The weights under a checkpoint key, under the host's names.

    `auto` takes the first of `CHECKPOINT_KEYS` that the file has, else all of the file.

    Raises:
        ValueError: the file lacks the key, or two tensors get the same name.
    """
    names = {name: _without_wrappers(name) for name in tensors}
    parts = {short.partition(".")[0] for short in names.values() if "." in short}
    if checkpoint_key == "auto":
        checkpoint_key = next((key for key in CHECKPOINT_KEYS if key in parts), "")
    elif checkpoint_key not in parts:
        raise ValueError(
            f"checkpoint_key is '{checkpoint_key}', but '{file}' has no weights under that key; it "
            f"has {', '.join(sorted(parts)) or 'none at all'}: choose auto, or a key that it has."
        )
    weights = {}
    for name, short in names.items():
        if not checkpoint_key or short.startswith(f"{checkpoint_key}."):
            short = _without_prefixes(short.removeprefix(checkpoint_key).removeprefix("."))
            if short in weights:
                raise ValueError(
                    f"model_name '{file}' holds '{short}' twice under different prefixes, so it is "
                    "unclear which model is meant: use a file with one model."
                )
            weights[short] = tensors[name]
    return weights


def _load_pickle(path: str) -> Mapping:
    # Mapped where the format allows: of the two or three models in a training file one is read.
    mmap = not comfy.utils.DISABLE_MMAP and zipfile.is_zipfile(path)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    return content if isinstance(content, Mapping) else {}


def _tensors(content: Mapping, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        name = path if key == "state_dict" else (*path, str(key))
        if isinstance(value, Mapping):
            yield from _tensors(value, name)
        elif isinstance(value, Tensor):
            yield ".".join(name), value


def _without_wrappers(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def _without_prefixes(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _refused(file: str, error: pickle.UnpicklingError) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code is None:
        return (
            f"model_name '{file}' cannot be read: it is damaged, cut short or no file of weights, "
            "so download it again."
        )
    return (
        f"model_name '{file}' asks to run Python code ({code[1]}), which was not done: use a file "
        "of weights alone, best a .safetensors."
    )
