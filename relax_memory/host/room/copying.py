"""How the host was told to copy between host memory and devices."""

import comfy.model_management
import torch

from ...memory.transfer import Ways


def ways_to(device: torch.device) -> Ways:
    """As its options say: `--disable-pinned-memory`, `--deterministic` and `--force-non-blocking`.

    Where it pins nothing by itself, as on a CPU, its limit is none either.
    """
    management = comfy.model_management
    return Ways(
        pins=management.MAX_PINNED_MEMORY > 0,
        beside=management.device_supports_non_blocking(device),
    )
