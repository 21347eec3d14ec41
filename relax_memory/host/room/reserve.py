"""How much memory the host sets aside for a rollout: one chunk and what is remembered.

Left to itself the host reserves for the whole clip, which no chunk ever sees, and unloads the model
to make that room.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor
from torch import Tensor

from ...memory.storage import NOTHING, Held, Storage
from ..gates.areas import check_area, in_videos
from ..gates.conditioning import skips_negative
from ..gates.latent import check_latent
from ..gates.model import check_model
from ..model.family import grid_of
from ..model.text import longest
from ..options import KEY
from ..sampling.prompts import Film, Prompts
from .budget import Budget, beside, check_budget, make_budget
from .parking import waiting


class ChunkedSampler(comfy.samplers.Sampler):
    """A sampler of the host that makes a film.

    `spared_bytes` of the model's device are for what takes turns with it there. A rollout that goes
    on has a `storage` already, and what is `held` there.
    """

    spared_bytes = 0
    storage: Storage | None = None
    held = NOTHING

    def film(self, guider: comfy.samplers.CFGGuider, like: Tensor) -> Film:
        """What is made of a latent `[B, C, T, h, w]`; its words become conditionings of the guider
        beside those that it has.
        """
        raise NotImplementedError


def add_reservation(model: ModelPatcher) -> None:
    """Make every run of a `ChunkedSampler` on this model reserve for a chunk and its memory.

    Where memory lies is decided at the start of each run and left in its `Options`, as are the
    bytes that are set aside beside the weights.
    """

    def outer_sample(
        executor: WrapperExecutor,
        noise: Tensor,
        latent_image: Tensor,
        sampler: comfy.samplers.Sampler,
        *args: object,
        **kwargs: object,
    ) -> Tensor:
        if isinstance(sampler, ChunkedSampler):
            guider = executor.class_obj
            assert isinstance(guider, comfy.samplers.CFGGuider), "the host wraps guiders"
            for name, conds in guider.conds.items():
                for options in conds:  # before the host lays them over the latents
                    check_area(name, options, (noise.shape[-2], noise.shape[-1]))
            guider.conds = {
                name: [in_videos(options, noise.shape[2]) for options in conds]
                for name, conds in guider.conds.items()
            }
            options = guider.model_options["transformer_options"]
            check_model(guider.model_patcher)  # before what wraps the sampler sees it
            check_latent(noise, grid_of(guider.model_patcher))
            film = sampler.film(guider, noise)
            budget = decide(
                guider,
                film,
                sampler.storage or options[KEY].storage,
                noise,
                spared_bytes=sampler.spared_bytes,
                held=sampler.held,
            )
            options[KEY] = replace(
                options[KEY],
                storage=budget.storage,
                reserved_bytes=budget.device_bytes,
                film=film,
                parked=frozenset(waiting(budget, film.storyboard)),
            )
            comfy.patcher_extension.add_wrapper_with_key(
                comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING,
                KEY,
                _reserve(budget, sampler.held),
                guider.model_options,
                is_model_options=True,
            )
        return executor(noise, latent_image, sampler, *args, **kwargs)

    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    model.remove_wrappers_with_key(kind, KEY)
    model.add_wrapper_with_key(kind, KEY, outer_sample)


def decide(
    guider: comfy.samplers.CFGGuider,
    film: Film,
    storage: Storage,
    like: Tensor,
    *,
    spared_bytes: int = 0,
    held: Held = NOTHING,
) -> Budget:
    """The budget of a rollout of frames as in `like`, `[B, C, T, h, w]`; ValueError: it is none."""
    budget = make_budget(
        guider.model_patcher,
        film.storyboard,
        storage,
        rows=len(like) * _evaluated(guider, film.prompts),
        height=like.shape[3],
        width=like.shape[4],
        text_tokens=longest(
            entry.get("cross_attn") for entries in guider.conds.values() for entry in entries
        ),
        spared_bytes=spared_bytes,
    )
    budget = beside(budget, held)
    check_budget(budget)
    if budget.host_bytes > held.host_bytes:
        comfy.model_management.ensure_pin_budget(budget.host_bytes - held.host_bytes)
    return budget


def _reserve(budget: Budget, held: Held) -> Callable:
    """The host reserves by shape, so bytes are told to it as latent pixels that are worth them."""
    needed_bytes = max(budget.chunk_bytes, budget.device_bytes - held.device_bytes)

    def prepare_sampling(
        executor: WrapperExecutor,
        model: ModelPatcher,
        noise_shape: list[int],
        conds: dict,
        **kwargs: object,
    ) -> tuple:
        samples, channels, *_ = noise_shape
        one_pixel = model.model.memory_required([samples, channels, 1, 1, 1])
        pixels = math.ceil(needed_bytes / one_pixel)
        return executor(model, [samples, channels, 1, 1, pixels], conds, **kwargs)

    return prepare_sampling


def _evaluated(guider: comfy.samplers.CFGGuider, prompts: Prompts) -> int:
    """Conditionings that the guider evaluates at once."""
    usual = type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise
    skips = usual and skips_negative(guider.cfg, guider.model_options)
    skipped = {*prompts.entries, *(["negative"] if skips else [])}
    return sum(len(conds) for name, conds in guider.conds.items() if name not in skipped)
