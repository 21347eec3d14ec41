"""Whether this ComfyUI can run the pack, said in a sentence before anything else is imported."""

import importlib
import importlib.util
import logging
import re
import sys

from comfy.model_patcher import ModelPatcher

OLDEST = "0.24.1"  # what the tests were run on, as `requires-comfyui` of pyproject.toml

logger = logging.getLogger(__name__)


def check_host() -> None:
    """Say so on a host that is older than those that were tried; it may do.

    Raises:
        RuntimeError: the host lacks something without which no video comes out.
    """
    version = _version()
    if lacking := _lacking():
        raise RuntimeError(
            f"Relax Forcing needs ComfyUI {OLDEST} or newer, but this is {version}, which has no "
            f"{lacking}: update ComfyUI."
        )
    if _numbers(version) < _numbers(OLDEST):
        logger.warning(
            "Relax Forcing was tried on ComfyUI %s and newer, but this is %s: update ComfyUI if "
            "something fails.",
            OLDEST,
            version,
        )


def _lacking() -> str:
    if importlib.util.find_spec("comfy.ldm.wan.ar_model") is None:
        return "causal Wan models (comfy.ldm.wan.ar_model)"
    if not hasattr(ModelPatcher, "loaded_ram_size"):
        return "ModelPatcher.loaded_ram_size"
    return ""


def _version() -> str:
    try:
        return str(importlib.import_module("comfyui_version").__version__)
    except (ImportError, AttributeError):
        return "of an unknown version"


def _numbers(version: str) -> tuple[int, ...]:
    """To compare; a version without numbers counts as new, as what it has was looked up."""
    found = re.findall(r"\d+", version)
    return tuple(map(int, found[:3])) if found else (sys.maxsize,)
