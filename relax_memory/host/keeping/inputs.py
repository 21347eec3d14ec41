"""Inputs that were computed before the rollout: those of the first run are used again.

Pictures and prompts that another device, precision or number of threads has encoded have other last
bits. A rollout of which nothing else differs goes on with the inputs that it was begun with.

The tolerance, measured: from float32 the bundled VAE in bfloat16 is off by up to 0.020, a Wan VAE
of full size by 0.022, a T5 of 24 layers by 0.029 (both with random weights), two threads by 5e-7.
What people change is more: a spot of 4x4 pixels 5 % brighter is 0.07, a picture 2 % brighter 0.053.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...saved.inputs import Packed, name_of, read_inputs, unpacked
from ...saved.rollout import Description, SavedRollout
from ..request import Request
from .fingerprint import fingerprint
from .made_from import changes

COMPUTED = ("positive", "negative", "prefix")
TOLERANCE = 0.04

Place = tuple[str, int]  # an input, and which of the prompts that it says one after another
Near = tuple[Any, float]  # as it is saved, and how far the given one lies from that


@dataclass(frozen=True)
class Reuse:
    """Inputs of a saved rollout that take the place of those which differ from them by rounding."""

    names: tuple[str, ...]
    deviation: float


def computed_inputs(request: Request, made_from: dict[str, str]) -> Iterator[list[Tensor]]:
    """The tensors of all inputs that count and were computed, those of later shots last."""
    nothing = fingerprint(None)
    counting = [name for name in COMPUTED if made_from[name] != nothing]
    for name in counting:
        yield list(_tensors(getattr(request, name)))
    for name in counting:
        said = {shot.prompt for shot in request.shots.get(name, ())}
        for index in sorted(said - {0}):
            yield list(_tensors(request.prompts[name][index]))


def with_saved_inputs(
    request: Request,
    made_from: dict[str, str],
    rollouts: Sequence[tuple[SavedRollout, Description | None]],
) -> tuple[Request, dict[str, str], Reuse | None]:
    """The request and what it is made from, with saved inputs where only rounding differs.

    What it begins with decides which rollouts are of the same video; prompts of later shots are
    looked for in all of these, each by itself, because words may change from a shot on.
    """
    found = [(rollout, then.made_from) for rollout, then in rollouts if then is not None]
    alike = [(r, then) for r, then in found if set(changes(made_from, then)) <= set(COMPUTED)]
    made, near = _beginning(request, made_from, alike)
    packed: Packed = {}
    for rollout, then in alike if request.prompts else ():
        packed |= read_inputs(rollout.folder) if then == made else {}
    later = {
        (name, index): prompt
        for name, prompts in request.prompts.items()
        for index, prompt in enumerate(prompts)
        if index
    }
    near |= _nearest(later, packed)
    if not near:
        return request, made, None
    taken = {place: value for place, (value, _) in near.items()}
    first = {name: value for (name, index), value in taken.items() if not index}
    prompts = {
        name: tuple(taken.get((name, index), prompt) for index, prompt in enumerate(prompts))
        for name, prompts in request.prompts.items()
    }
    taken_of = {name for name, _ in near}
    names = tuple(name for name in COMPUTED if name in taken_of)
    reuse = Reuse(names, max(deviation for _, deviation in near.values()))
    return replace(request, **first | {"prompts": prompts}), made, reuse


def _beginning(
    request: Request, made_from: dict[str, str], alike: Sequence[tuple[SavedRollout, dict]]
) -> tuple[dict[str, str], dict[Place, Near]]:
    """What the rollout is made from that a request goes on with, and the inputs of that; where
    several are as good, the newest.
    """
    for rollout, then in sorted(alike, key=lambda other: len(changes(made_from, other[1]))):
        given = {(name, 0): getattr(request, name) for name in changes(made_from, then)}
        near = _nearest(given, read_inputs(rollout.folder)) if given else {}
        made = {name: fingerprint(value) for (name, _), (value, _) in near.items()}
        if made_from | made == then:  # else more than rounding differs, or they are damaged
            return then, near
    return made_from, {}


def _nearest(given: Mapping[Place, object], packed: Packed) -> dict[Place, Near]:
    """What is saved in the place of those inputs that differ from it by rounding."""
    missing = {place: list(_tensors(value)) for place, value in given.items()} if packed else {}
    missing = {place: held for place, held in missing.items() if name_of(held) not in packed}
    near: dict[Place, Near] = {}
    for name in packed if missing else ():
        saved = unpacked(name, packed)
        for place, held in missing.items():
            if saved and [t.shape for t in held] == [t.shape for t in saved]:
                deviation = max(map(_deviation, held, saved))
                if deviation <= min(TOLERANCE, near[place][1] if place in near else TOLERANCE):
                    near[place] = _with_tensors(given[place], iter(saved)), deviation
    return near


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
