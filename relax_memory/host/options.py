"""What this pack leaves in a model's `transformer_options`: one object under one key.

Written by a memory node, completed at the start of a run, read by attention. Runs replace it in
their own copy of the options, so a model never keeps anything of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy.model_patcher import ModelPatcher

from ..memory.storage import Storage
from ..policies import Policy

if TYPE_CHECKING:
    from .sampling.prompts import Film
    from .sampling.session import Session

KEY = "relax_forcing"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model remembers: its policy and where frames lie.

    `reserved_bytes` of the model's device are set aside beside the weights in this run, which makes
    `film`; its scenes that are `parked` wait in host memory while they are away. `session` is the
    run itself; without one, attention is the host's own.
    """

    policy: Policy
    storage: Storage = Storage()
    reserved_bytes: int = 0
    film: Film | None = None
    parked: frozenset[int] = frozenset()
    session: Session | None = None


def options_in(transformer_options: dict) -> Options | None:
    """Those of a memory node or a run, None where there is neither."""
    return transformer_options.get(KEY)


def in_run(extra_args: dict) -> Options:
    """Those of a run, from what the host hands to its sampler."""
    options = options_in(extra_args["model_options"]["transformer_options"])
    assert options is not None, "what reserves room has left no options"
    return options


def remembered(model: ModelPatcher) -> Options:
    """Those of a model that has been given some."""
    options = options_of(model)
    assert options is not None, "this model has passed no memory node"
    return options


def options_of(model: ModelPatcher) -> Options | None:
    """Those that a memory node gave this model."""
    return options_in(model.model_options.get("transformer_options", {}))
