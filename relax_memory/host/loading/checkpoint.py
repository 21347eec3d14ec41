"""Loads a Wan 2.1 text-to-video model from the files that people have.

Finds the weights in the file, gives them the host's key layout and lets the host build the model.
Reads weights only: nothing that a file contains is run. Knows no memory and no policy.
"""

import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import comfy.model_detection
import comfy.ops
import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy.ldm.wan.model import WanModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...recipes import AUTO, SIZES
from .identify import TEXT_TO_VIDEO, looks_like
from .layouts import as_the_host_has_them, has_linear_patches
from .quantised import check_loaded, check_metadata, check_stored, is_newer_hosts, layer, with_marks
from .recipe import Found, attach, chosen
from .weights import parts, pick, read, some

FOLDER = "diffusion_models"
WEIGHT_DTYPES = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}

logger = logging.getLogger(__name__)


def model_names() -> list[str]:
    """Files in the host's folders for diffusion models, `.pt` among them."""
    return folder_paths.get_filename_list(FOLDER)


def model_path(model_name: str) -> str:
    """Where a file of `model_names` lies.

    Raises:
        ValueError: the host does not list such a file, whatever else the name may point to.
    """
    return listed_path(FOLDER, model_name, "model_name", "diffusion models")


def listed_path(folder: str, name: str, input_name: str, kind: str) -> str:
    """Where a file that the host lists in one of its folders lies, else ValueError."""
    listed = name in folder_paths.get_filename_list(folder)
    path = folder_paths.get_full_path(folder, name) if listed else None
    if path is None:
        folders = " or ".join(folder_paths.get_folder_paths(folder))
        raise ValueError(
            f"{input_name} '{name}' is not among the host's {kind}: put the file "
            f"into {folders}, then refresh the node list and choose it."
        )
    return path


def load_checkpoint(
    path: str,
    *,
    checkpoint_key: str = "auto",
    weight_dtype: str = "default",
    shift: float = 5.0,
    family: str = AUTO,
    name: str | None = None,
    disable_dynamic: bool = False,
) -> ModelPatcher:
    """A Wan 2.1 text-to-video model as the host's loader gives it, with `shift` set.

    Args:
        path: a `.safetensors` file, or a pickle of plain weights such as `.pt`.
        checkpoint_key: one of `CHECKPOINT_KEYS`.
        weight_dtype: a key of `WEIGHT_DTYPES`.
        shift: of the sigma schedule, set through the model patcher.
        family: one of `FAMILIES`.
        name: of the file with the folders that the host shows, which may name the family.
        disable_dynamic: asked for by the host when it loads the file anew for a clone.

    Raises:
        ValueError: the file cannot be read as weights, lacks the key or some weights, or holds
            anything else; the message says what.
    """
    file = os.path.basename(path)
    tensors, metadata = read(path)
    check_metadata(metadata, file)
    # Quantised layers are listed under the names of the file, so this comes before renaming.
    tensors, metadata = with_marks(tensors, metadata)
    metadata = {key: value for key, value in metadata.items() if key != "_quantization_metadata"}
    weights, found = _of_a_family(tensors, checkpoint_key, family, name or file)
    del tensors  # a training file holds several models
    weights, _ = with_marks(weights, {})
    kind = looks_like(weights, metadata)
    if kind != TEXT_TO_VIDEO:
        raise ValueError(
            f"model_name '{file}' looks like {kind}, but Relax Forcing needs {TEXT_TO_VIDEO}: "
            "choose a Self Forcing, CausVid or Causal Forcing checkpoint."
        )
    stored = {name: tensor.to("meta") for name, tensor in weights.items()}
    model = comfy.sd.load_diffusion_model_state_dict(
        _complete(weights, metadata, file),
        model_options=dict(cast(dict, WEIGHT_DTYPES[weight_dtype])),
        metadata=metadata,
        disable_dynamic=disable_dynamic,
    )
    check_loaded(model.model.diffusion_model, stored, file)
    _set_shift(model, shift)
    attach(model, found)
    settings: dict[str, Any] = {
        "checkpoint_key": checkpoint_key,
        "weight_dtype": weight_dtype,
        "shift": shift,
    }
    settings |= {"family": family, "name": name}
    model.cached_patcher_init = (partial(load_checkpoint, path, **settings), ())
    return model


def _of_a_family(
    tensors: Mapping[str, Tensor], checkpoint_key: str, family: str, name: str
) -> tuple[dict[str, Tensor], Found]:
    """The weights in the host's layout, and the family that the file is taken for."""
    file = os.path.basename(name)
    found = chosen(family, name, parts(tensors), linear_patches=has_linear_patches(tensors))
    recipe = None if found.guessed else found.recipe
    weights = pick(tensors, checkpoint_key, file, preferred=recipe.key if recipe else "")
    weights = as_the_host_has_them(weights)
    width = weights["head.modulation"].shape[-1] if "head.modulation" in weights else None
    if recipe and recipe.dim and width in SIZES and width != recipe.dim:
        raise ValueError(
            f"family is '{recipe.family}', which has {SIZES[recipe.dim]} parameters, but "
            f"'{file}' is a model of {SIZES[width]}: choose auto, or another family."
        )
    return weights, found


def _complete(
    weights: dict[str, Tensor], metadata: Mapping[str, str], file: str
) -> dict[str, Tensor]:
    """The weights that the model has a place for; ValueError if any of its own is missing."""
    config = comfy.model_detection.model_config_from_unet(weights, "", metadata=metadata)
    shape = config.unet_config
    # Of torch's own layers: with dynamic VRAM the host's have no weights until they are loaded.
    network = WanModel(**shape, device="meta", operations=torch.nn)
    expected = network.state_dict()
    modules = {layer(name) for name in expected} - {""}
    known = {
        name: tensor
        for name, tensor in weights.items()
        if layer(name) in modules or is_newer_hosts(name)
    }
    missing = [name for name in expected if name not in known]
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    if len(blocks) > shape["num_layers"]:  # the host counts blocks up to the first gap
        missing.append(f"all of blocks.{shape['num_layers']}")
    check_stored(weights, expected, file)
    if missing:
        raise ValueError(
            f"model_name '{file}' lacks weights of {TEXT_TO_VIDEO} ({some(missing)}): it is one "
            "part of a split model or was saved unfinished, so use the whole model in one file."
        )
    if ignored := [name for name in weights if name not in known]:
        logger.warning("%s: ignored what is not the model's (%s)", file, some(ignored))
    return known


def _set_shift(model: ModelPatcher, shift: float) -> None:
    original: Any = model.get_model_object("model_sampling")
    sampling = type(original)(model.model.model_config)
    sampling.set_parameters(shift=shift, multiplier=original.multiplier)
    model.add_object_patch("model_sampling", sampling)
