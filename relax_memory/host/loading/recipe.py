"""Which recipe a file and then its MODEL has.

Many families have the same names and shapes inside, so the name of the file says it, or the user.
The recipe lies in the model's options: clones, LoRAs and merges keep it. A model from another
loader has none, and nothing needs one.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from comfy.model_patcher import ModelPatcher

from ...recipes import AUTO, RECIPES, Recipe, recipe_named

RECIPE = "relax_forcing_recipe"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What family a file is taken for, why, and whether that was a guess."""

    recipe: Recipe | None
    because: str
    guessed: bool = False


def find(file: str, held: Collection[str], *, linear_patches: bool) -> Found:
    """The family of a file by its name, else a guess by what it holds.

    Args:
        file: its name with the folders that the host shows.
        held: the models that it holds, by name.
        linear_patches: its patch embedding is a matrix.
    """
    name = file.replace("\\", "/").lower()
    for recipe in RECIPES:
        if re.search(recipe.files, name):
            return Found(recipe=_variant(recipe, name), because="the name of the file says so")
    if linear_patches:
        return Found(
            recipe=recipe_named("rCM chunk-wise"),
            because="its patch embedding is a matrix",
            guessed=True,
        )
    if re.search(r"causal.?forcing", name):
        return Found(
            recipe=recipe_named("Causal Forcing chunk-wise"),
            because="its name does not say whether it is chunk-wise or frame-wise",
            guessed=True,
        )
    if nested := sorted(set(held) & {"generator", "generator_ema"}):
        return Found(
            recipe=recipe_named("Self Forcing"),
            because=f"its weights are under {' and '.join(nested)}",
            guessed=True,
        )
    return Found(recipe=None, because="neither its name nor what it holds says")


def _variant(recipe: Recipe, name: str) -> Recipe:
    """The recipe of a file by this name, where families have files of two kinds."""
    noisy = recipe.family.startswith("rCM") and "noisy_ctx" in name
    return replace(recipe, clean_pass=False) if noisy else recipe


def recipe_of(model: ModelPatcher) -> Recipe | None:
    """How the checkpoint of this model was made to be run, if that is known."""
    return _found(model).recipe


def attach(model: ModelPatcher, found: Found) -> None:
    model.model_options["transformer_options"][RECIPE] = found


def chosen(family: str, file: str, parts: list[str], *, linear_patches: bool) -> Found:
    """What family a file is: the chosen one, or what `find` says of it."""
    if family == AUTO:
        return find(file, parts, linear_patches=linear_patches)
    recipe = recipe_named(family)
    return Found(recipe=recipe and _variant(recipe, file.lower()), because="you chose it")


def words(model: ModelPatcher) -> str:
    """What family the model was taken for and why, for its node."""
    found = _found(model)
    if found.recipe is None:
        return (
            f"Family unknown ({found.because}): 3 frames a chunk and 4 steps, unless the sampler "
            "says otherwise. If you know it, choose it under family."
        )
    recipe = found.recipe
    licence = f" Licence: {recipe.licence}, {recipe.link}." if recipe.licence else ""
    taken = f"{recipe.family}, because {found.because}: {recipe.words}.{licence}"
    if found.guessed:
        return f"Guessed: {taken} If it is another, choose it under family."
    return taken


def _found(model: ModelPatcher) -> Found:
    options = model.model_options.get("transformer_options", {})
    return options.get(RECIPE) or Found(recipe=None, because="it comes from another loader")
