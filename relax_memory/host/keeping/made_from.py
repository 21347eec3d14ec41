"""All that decides what a chunk of a request looks like, by the name that people know it by."""

import comfy.model_management
from comfy.model_patcher import ModelPatcher

from ...passes import Chunk, Schedule
from ...saved.chunk import chunk_keys
from ...storyboard import Storyboard, Words
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
    if request.first_sample:
        values["sample"] = request.first_sample
    if not schedule.clean_pass:
        values["clean_pass"] = False
    made = model_fingerprints(model) | {"ComfyUI's attention and precision": host_fingerprint()}
    return made | {name: fingerprint(value) for name, value in values.items()}


def changes(made: dict[str, str], then: dict[str, str]) -> list[str]:
    """What differs between two of them, by name."""
    return [name for name in made | then if made.get(name) != then.get(name)]


def keys_of(made_from: dict[str, str], request: Request, storyboard: Storyboard) -> list[str]:
    """One for each chunk.

    What may differ by chunk: the words by which it is made, those by which the one before it in its
    scene is remembered, its place in its scene, and the moment that it reads.
    """
    common = {name: made for name, made in made_from.items() if name not in CONDITIONINGS}
    said = {
        name: [fingerprint(prompt) for prompt in prompts]
        for name, prompts in request.prompts.items()
        if made_from[name] != fingerprint(None)  # it is never evaluated
    }

    def part(chunk: Chunk) -> str:
        made = {name: made_from[name] for name in CONDITIONINGS}
        made |= _said(said, storyboard.words(chunk))
        differs: list[object] = []
        if chunk.index:
            before = storyboard.plans[chunk.scene].chunk(chunk.index - 1)
            words, remembered = (
                _said(said, storyboard.words(before, clean=clean)) for clean in (False, True)
            )
            if remembered != words:
                differs.append(remembered)
        if chunk.frames_elsewhere or chunk.roles.pinned:
            differs.append((chunk.scene, chunk.first_frame, chunk.roles.pinned))
        return fingerprint([*(made[name] for name in CONDITIONINGS), *differs])

    if storyboard.shots:
        return chunk_keys(fingerprint(common), map(part, storyboard))
    same = part(storyboard.chunk(0))  # nothing differs by chunk
    return chunk_keys(fingerprint(common), [same] * storyboard.chunk_count)


def _said(prompts: dict[str, list[str]], words: dict[str, Words]) -> dict[str, str]:
    """Fingerprints of what each conditioning says."""
    return {
        name: prompts[name][now.prompt]
        if now.before is None
        else fingerprint((prompts[name][now.before], prompts[name][now.prompt], now.share))
        for name, now in words.items()
        if name in prompts
    }
