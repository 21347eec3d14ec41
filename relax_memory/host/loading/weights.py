"""The weights in a file: read without running anything, and named as the host names them.

Knows no model: whether the weights are the right ones is asked elsewhere.
"""

import os
import pickle
import textwrap
from collections.abc import Mapping

import comfy.utils
from torch import Tensor

from .pickles import Refused, load_pickle, tensors

# auto looks for the first three; the others are for files that hold several models.
CHECKPOINT_KEYS = ("auto", "generator_ema", "generator", "model", "ema", "net", "net_ema")

# What every Wan model has at its top: the host's layout, that of diffusers, a model cut short.
MARKS = (
    "head.modulation",
    "condition_embedder.time_embedder.linear_1.weight",
    "blocks.0.self_attn.q.weight",
)

# Training puts wrappers anywhere into a name, and saving puts prefixes before it.
_WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module")
_PREFIXES = ("model.", "diffusion_model.")


def read(path: str, input_name: str = "model_name") -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file by dotted name, and the metadata of a safetensors file.

    Args:
        input_name: of the widget where the file was chosen, for messages.

    Raises:
        ValueError: the file is empty, damaged, or a pickle of more than plain values.
    """
    file = f"{input_name} '{os.path.basename(path)}'"
    if os.path.getsize(path) == 0:
        raise ValueError(f"{file} is empty (0 bytes): download it again.")
    try:
        if path.lower().endswith((".safetensors", ".sft")):
            content, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
        else:
            content, metadata = load_pickle(path), None
        return dict(tensors(content)), metadata or {}
    except MemoryError:
        raise
    except Refused as error:
        raise ValueError(_refused(file, error.name)) from None
    except pickle.UnpicklingError:  # its text advises to read it unsafely
        raise ValueError(
            f"{file} cannot be read: it is damaged, cut short or no file of weights, "
            "so download it again."
        ) from None
    except Exception as error:
        reason = textwrap.shorten(str(error), 100) or type(error).__name__
        raise ValueError(
            f"{file} cannot be read ({reason}): if it is damaged or cut short, download it again."
        ) from error


def parts(tensors: Mapping[str, Tensor]) -> list[str]:
    """What a file holds at its top, by name."""
    names = map(without_wrappers, tensors)
    return sorted({name.partition(".")[0] for name in names if "." in name})


def pick(
    tensors: Mapping[str, Tensor], checkpoint_key: str, file: str, *, preferred: str = ""
) -> dict[str, Tensor]:
    """The weights under a checkpoint key, under the host's names.

    `auto` takes what is preferred, else the first of `CHECKPOINT_KEYS`, else all of the file. What
    stands before the names of a Wan model, whatever it is, is left out.

    Raises:
        ValueError: the file lacks the key, holds several models of which any may be meant, or two
            tensors get the same name.
    """
    names = {name: without_wrappers(name) for name in tensors}
    held = parts(tensors)
    if checkpoint_key == "auto":
        wanted = (preferred, *CHECKPOINT_KEYS[1:4])
        checkpoint_key = next((key for key in wanted if key in held), "")
    elif checkpoint_key not in held:
        raise ValueError(
            f"checkpoint_key is '{checkpoint_key}', but '{file}' has no weights under that key; it "
            f"has {', '.join(held) or 'none at all'}: choose auto, or a key that it has."
        )
    weights: dict[str, Tensor] = {}
    for name, short in names.items():
        if not checkpoint_key or short.startswith(f"{checkpoint_key}."):
            short = _without_prefixes(short.removeprefix(checkpoint_key).removeprefix("."))
            if short in weights:
                raise _twice(short, file)
            weights[short] = tensors[name]
    return _under_one_prefix(weights, file)


def _under_one_prefix(weights: dict[str, Tensor], file: str) -> dict[str, Tensor]:
    prefixes = _model_prefixes(weights)
    if "" in prefixes or not prefixes:
        return weights
    if len(prefixes) > 1:
        models = [prefix.removesuffix(".") for prefix in sorted(prefixes)]
        offered = [name for name in models if name in CHECKPOINT_KEYS]
        choice = f"set checkpoint_key to {' or '.join(offered)}, or use" if offered else "use"
        raise ValueError(
            f"model_name '{file}' holds {len(models)} models ({', '.join(models)}), and it is "
            f"unclear which is meant: {choice} a file with one model."
        )
    (prefix,) = prefixes
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.removeprefix(prefix) in found:
            raise _twice(name, file)
        found[name.removeprefix(prefix)] = tensor
    return found


def _model_prefixes(weights: Mapping[str, Tensor]) -> set[str]:
    """What stands before the names of each Wan model, in the host's or in diffusers' layout."""
    found = set()
    for mark in MARKS:
        for name in weights:
            prefix = name.removesuffix(mark)
            if prefix != name and (not prefix or prefix.endswith(".")):
                found.add(prefix)
        if found:
            break
    return found


def _twice(name: str, file: str) -> ValueError:
    return ValueError(
        f"model_name '{file}' holds '{name}' twice under different prefixes, so it is unclear "
        "which model is meant: use a file with one model."
    )


def without_wrappers(name: str) -> str:
    """A name without what training puts into it."""
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def some(names: list[str]) -> str:
    """The first three names and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _without_prefixes(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _refused(file: str, name: str) -> str:
    if name.rpartition(".")[2][0].isupper():
        what = f"holds Python objects beside its weights ({name}), and they were not opened"
    else:
        what = f"asks to run Python code ({name}), which was not done"
    return f"{file} {what}: use a file of weights alone, best a .safetensors."
