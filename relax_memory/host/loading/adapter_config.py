"""The alpha of a LoRA that its file leaves out, from the `adapter_config.json` that PEFT saves.

It lies beside the file. One of another LoRA in the same folder is known by its rank and passed
over; a strength that is guessed would change the video without a word. Knows no host.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

NAME = "adapter_config.json"


def configured_alphas(file: Path, ranks: Mapping[str, int]) -> dict[str, float]:
    """Alpha by layer, as far as a configuration beside the file says it.

    Args:
        ranks: by layer, of those whose alpha is asked for.

    Raises:
        ValueError: it cannot be read.
    """
    path = file.with_name(NAME)
    if not ranks or not path.is_file():
        return {}
    try:
        config = json.loads(path.read_bytes())
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        patterns = dict(config.get("alpha_pattern") or {}), dict(config.get("rank_pattern") or {})
        made_for = {layer: _of(layer, patterns[1], rank) for layer in ranks}
        alphas = {layer: float(_of(layer, patterns[0], alpha)) for layer in ranks}
    except (OSError, ValueError, TypeError, KeyError, re.error) as error:
        raise ValueError(
            f"{NAME} beside lora_name '{file.name}' cannot be read ({error!r}), but it says how "
            "strong the LoRA is: download it again, or move it away if it belongs to another."
        ) from error
    if made_for != ranks:
        return {}
    if config.get("use_rslora"):  # scales by alpha / sqrt(rank), the host by alpha / rank
        return {layer: alpha * ranks[layer] ** 0.5 for layer, alpha in alphas.items()}
    return alphas


def _of(layer: str, patterns: Mapping[str, float], usual: float) -> float:
    """What a layer has by the first pattern for the end of its name, as PEFT reads them."""
    fits = (value for end, value in patterns.items() if re.match(rf"(.*\.)?({end})$", layer))
    return next(fits, usual)
