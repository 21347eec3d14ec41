"""All that decides what a chunk of a request looks like, by the name that people know it by."""

import comfy.model_management
from comfy.model_patcher import ModelPatcher

from ...plan import Plan
from ...saved.chunk import chunk_keys
from ...schedule import Schedule
from ..gates.conditioning import skips_negative
from ..request import Request
from .fingerprint import fingerprint, host_fingerprint, model_fingerprints

CONDITIONINGS = ("positive", "negative")
HOW = "2"  # fingerprints are made; version 0.1, which does not name it, made some otherwise
MADE_OTHERWISE = ("model", "LoRAs and model patches", "memory", "ComfyUI's attention and precision")


def made_from(request: Request, model: ModelPatcher, schedule: Schedule) -> dict[str, str]:
    """Fingerprints of all that decides what a chunk looks like; the length does not.

    What is a usual one has none where version 0.1 knew no other.
    """
    skipped = skips_negative(request.cfg, model.model_options)
    levels = schedule.sigmas if schedule.first is None else (schedule.sigmas, schedule.first)
    values = {
        "positive": request.positive,
        "negative": None if skipped else request.negative,
        "seed": request.seed,
        "width": request.width,
        "height": request.height,
        "cfg": request.cfg,
        "frames_per_chunk": request.frames_per_chunk,
        "batch_size": request.batch_size,
        "prefix": request.prefix,
        "steps, shift or sigmas": levels,
        "precision of latents": comfy.model_management.intermediate_dtype(),
    }
    if not schedule.clean_pass:
        values["clean_pass"] = False
    made = model_fingerprints(model) | {"ComfyUI's attention and precision": host_fingerprint()}
    return made | {name: fingerprint(value) for name, value in values.items()}


def changes(made: dict[str, str], then: dict[str, str]) -> list[str]:
    """What differs between two of them, by name."""
    return [name for name in made | then if made.get(name) != then.get(name)]


def keys_of(made_from: dict[str, str], plan: Plan) -> list[str]:
    """One for each chunk; the conditioning, now the same for all, is what may differ by chunk."""
    assert plan.chunk_count is not None, "the video of a request has an end"
    common = {name: made for name, made in made_from.items() if name not in CONDITIONINGS}
    conditioning = fingerprint([made_from[name] for name in CONDITIONINGS])
    return chunk_keys(fingerprint(common), [conditioning] * plan.chunk_count)
