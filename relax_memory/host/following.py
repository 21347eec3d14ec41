"""What a sampler takes from the recipe of its model where a widget says 0, and what it says of it.

The values that come out are plain ones: nothing below knows recipes.
"""

from typing import TypedDict

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..passes import Schedule
from ..policies import WindowMemory
from ..recipes import Recipe
from .loading.recipe import recipe_of

FRAMES, STEPS = 3, 4  # where nothing is known
AS_MADE, ALWAYS, NEVER = CLEAN_PASS = ("as the checkpoint was made", "always", "never")


class Followed(TypedDict):
    """Settings of a request with no 0 in them."""

    steps: int
    frames_per_chunk: int
    sigmas: Tensor | None
    sigmas_first: Tensor | None
    clean_pass: bool


def chunk_frames(model: ModelPatcher, frames_per_chunk: int) -> int:
    """Frames of a chunk; 0 asks for those that the checkpoint was made for."""
    recipe = recipe_of(model)
    return frames_per_chunk or (recipe.frames_per_chunk if recipe else FRAMES)


def follow(
    model: ModelPatcher,
    *,
    steps: int,
    frames_per_chunk: int,
    sigmas: Tensor | None,
    sigmas_first: Tensor | None,
    clean_pass: str = AS_MADE,
) -> tuple[Followed, list[str]]:
    """Settings of a request as it will be run, and what is to be said of them.

    Raises:
        ValueError: there is no such choice for the clean pass.
    """
    if clean_pass not in CLEAN_PASS:
        raise ValueError(f"clean_pass is '{clean_pass}': use one of {', '.join(CLEAN_PASS)}.")
    recipe = recipe_of(model)
    notes = _differences(recipe, frames_per_chunk, steps, sigmas, clean_pass) if recipe else []
    if recipe is None and 0 in (steps, frames_per_chunk):
        notes.append(
            "How this checkpoint was made is not known: it is run with "
            f"{frames_per_chunk or FRAMES} frames a chunk and {_steps(steps, sigmas)} steps."
        )
    if recipe is not None and steps == 0 and sigmas is None:
        sigmas = torch.tensor(recipe.sigmas)
        if sigmas_first is None and recipe.first_times:
            sigmas_first = torch.tensor(recipe.first_sigmas)
        shift = getattr(model.get_model_object("model_sampling"), "shift", None)
        if shift is not None and shift != (recipe.shift or 5.0):
            notes.append(
                f"shift {shift:g} has no effect: with steps 0 the noise levels are those of "
                f"{recipe.family}; set steps to use it."
            )
    followed = Followed(
        steps=_steps(steps, sigmas),
        frames_per_chunk=chunk_frames(model, frames_per_chunk),
        sigmas=sigmas,
        sigmas_first=sigmas_first,
        clean_pass=(not recipe or recipe.clean_pass)
        if clean_pass == AS_MADE
        else clean_pass == ALWAYS,
    )
    return followed, notes


def follow_sigmas(
    model: ModelPatcher,
    sigmas: Tensor,
    *,
    frames_per_chunk: int,
    sigmas_first: Tensor | None,
    clean_pass: str,
) -> tuple[Schedule, list[str]]:
    """The schedule of a sampler that is given its levels, and what is to be said of it.

    With `frames_per_chunk` 0 the first chunk has the levels of the recipe, if those are others.
    """
    followed, notes = follow(
        model,
        steps=len(sigmas) - 1,
        frames_per_chunk=frames_per_chunk,
        sigmas=sigmas,
        sigmas_first=sigmas_first,
        clean_pass=clean_pass,
    )
    recipe = recipe_of(model)
    first = None if sigmas_first is None else sigmas_first.to(sigmas)
    if first is None and frames_per_chunk == 0 and recipe and recipe.first_times:
        first = sigmas.new_tensor(recipe.first_sigmas)
        if first[0] != sigmas[0]:
            notes.append(
                f"{recipe.family} has levels of its own for the first chunk, which begin at "
                f"{first[0]:.4g}; sigmas begin at {sigmas[0]:.4g} and are used for it too."
            )
            first = None
    return Schedule(sigmas=sigmas, first=first, clean_pass=followed["clean_pass"]), notes


def trained_window(model: ModelPatcher) -> tuple[WindowMemory | None, str]:
    """What the checkpoint was trained to look back at, None where that is no window; in words."""
    recipe = recipe_of(model)
    if recipe is None:
        return None, (
            "What this checkpoint was trained to look back at is not known: sink_frames and "
            "window_frames are used"
        )
    if recipe.sinks is None or recipe.past is None:
        return None, (
            f"{recipe.family} has no plain window ({recipe.memory_note}): sink_frames and "
            "window_frames are used"
        )
    left_out = f"; {recipe.memory_note}, which is left out here" if recipe.memory_note else ""
    trained = WindowMemory(sink_frames=recipe.sinks, window_frames=recipe.past)
    inferred = " (inferred from others of its kind)" if recipe.inferred else ""
    return trained, (
        f"As {recipe.family} was trained{inferred}: sink_frames {recipe.sinks} and window_frames "
        f"{recipe.past}{left_out}"
    )


def _steps(steps: int, sigmas: Tensor | None) -> int:
    return steps or (STEPS if sigmas is None else len(sigmas) - 1)


def _differences(
    recipe: Recipe, frames_per_chunk: int, steps: int, sigmas: Tensor | None, clean_pass: str
) -> list[str]:
    """What was set against the recipe, in one line."""
    set_so = []
    if frames_per_chunk not in (0, recipe.frames_per_chunk):
        set_so.append(f"frames_per_chunk {frames_per_chunk} instead of {recipe.frames_per_chunk}")
    if sigmas is None and steps not in (0, len(recipe.times)):
        set_so.append(f"steps {steps} instead of {len(recipe.times)}")
    help_ = ": 0 takes what it wants" if set_so else ""
    if sigmas is not None and len(sigmas) - 1 != len(recipe.times):
        set_so.append(f"sigmas of {len(sigmas) - 1} steps instead of {len(recipe.times)}")
    made_with = ALWAYS if recipe.clean_pass else NEVER
    if clean_pass not in (AS_MADE, made_with):
        set_so.append(f"clean_pass {clean_pass} instead of {made_with}")
    return [f"{recipe.family} was not made for {' and '.join(set_so)}{help_}."] if set_so else []
