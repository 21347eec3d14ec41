"""Inputs that were computed before the rollout: those of the first run are used again.

Pictures and prompts that another device, precision or number of threads has encoded have other last
bits. A rollout of which nothing else differs goes on with the inputs that it was begun with.

The tolerance, measured: from float32 the bundled VAE in bfloat16 is off by up to 0.020, a Wan VAE
of full size by 0.022, a T5 of 24 layers by 0.029 (both with random weights), two threads by 5e-7.
What people change is more: a spot of 4x4 pixels 5 % brighter is 0.07, a picture 2 % brighter 0.053.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...saved.inputs import read_inputs
from ...saved.rollout import Description, SavedRollout
from ..request import Request
from .fingerprint import fingerprint
from .made_from import changes

COMPUTED = ("positive", "negative", "prefix")
TOLERANCE = 0.04


@dataclass(frozen=True)
class Reuse:
    """Inputs of a saved rollout that take the place of those which differ from them by rounding."""

    names: tuple[str, ...]
    deviation: float


def computed_inputs(request: Request, made_from: dict[str, str]) -> dict[str, list[Tensor]]:
    """The tensors of all inputs that count and were computed, those of later shots last."""
    nothing = fingerprint(None)
    inputs = {name: getattr(request, name) for name in COMPUTED if made_from[name] != nothing}
    for name, prompts in request.prompts.items():
        if name in inputs:
            later = sorted({shot.prompt for shot in request.shots[name]} - {0})
            inputs |= {_later(name, index): prompts[index] for index in later}
    return {name: list(_tensors(value)) for name, value in inputs.items()}


def _later(name: str, index: int) -> str:
    """The name of what a conditioning says in a later shot."""
    return f"{name} {index} of shots"


def with_saved_inputs(
    request: Request,
    made_from: dict[str, str],
    rollouts: Sequence[tuple[SavedRollout, Description | None]],
) -> tuple[Request, dict[str, str], Reuse | None]:
    """The request and what it is made from, with saved inputs where only rounding differs."""
    alike = []
    for rollout, description in rollouts:
        if description is not None:
            then = description.made_from
            changed = tuple(changes(made_from, then))
            if not changed:
                return request, made_from, None
            if set(changed) <= set(COMPUTED):
                alike.append((rollout, then, changed))
    for rollout, then, changed in alike:
        taken, deviation = _take(request, rollout, then, changed)
        if deviation <= TOLERANCE:
            names = {name: then[name] for name in changed}
            return replace(request, **taken), made_from | names, Reuse(changed, deviation)
    return request, made_from, None


def _take(
    request: Request, rollout: SavedRollout, made_from: dict[str, str], names: Sequence[str]
) -> tuple[dict[str, Any], float]:
    """These inputs as the rollout has them, and how far the request's lie from them at most."""
    taken: dict[str, Any] = {}
    deviation = 0.0
    for name in names:
        taken[name], off = _as_saved(rollout, name, getattr(request, name))
        if fingerprint(taken[name]) != made_from[name]:  # something else differs, or it is damaged
            return {}, torch.inf
        deviation = max(deviation, off)
    prompts = dict(request.prompts)
    for name in prompts.keys() & taken.keys():
        said = [taken[name]]
        for index, prompt in enumerate(prompts[name][1:], 1):
            saved, off = _as_saved(rollout, _later(name, index), prompt)
            if off <= TOLERANCE:
                deviation = max(deviation, off)
            said.append(saved if off <= TOLERANCE else prompt)  # words may change from a shot on
        prompts[name] = tuple(said)
    return taken | {"prompts": prompts}, deviation


def _as_saved(rollout: SavedRollout, name: str, given: object) -> tuple[Any, float]:
    """An input as the rollout has it, if it has, and how far the given one lies from that."""
    tensors = list(_tensors(given))
    saved = read_inputs(rollout.folder, name, tensors)
    if not saved:
        return given, torch.inf
    return _with_tensors(given, iter(saved)), max(map(_deviation, tensors, saved))


def _deviation(tensor: Tensor, other: Tensor) -> float:
    """How far the worst vector is off, a token or a place in latents, in lengths of a usual one."""
    if not other.is_floating_point():
        return 0.0 if torch.equal(tensor.detach().cpu(), other) else torch.inf
    axis = 1 if other.ndim == 5 else -1
    off = (tensor.detach().cpu().float() - other.float()).norm(dim=axis).max()
    lengths = other.float().norm(dim=axis)
    usual = lengths[lengths > 0].square().mean().sqrt()  # zeros are padding
    return 0.0 if off == 0 else float(off / usual)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _with_tensors(value: object, tensors: Iterator[Tensor]) -> object:
    """A copy with these in the place of its tensors, in the order of `_tensors`."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, dict):
        return {key: _with_tensors(part, tensors) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_tensors(part, tensors) for part in value)
    return value
