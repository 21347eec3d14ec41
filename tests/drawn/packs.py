"""Hooks of the kinds that other packs put into a MODEL, each with the same hook and its own code.

What changes nothing in them is left out: that every layer runs, and what it is given, is the point.
"""

import functools
from collections.abc import Callable

import comfy.patcher_extension
import torch
from comfy.ldm.modules import attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor

KINDS = comfy.patcher_extension.WrappersMP


def override(model: ModelPatcher) -> ModelPatcher:
    """Another attention through the host's option, as packs for sparse or sage attention do it."""
    model = model.clone()

    def plain(own: Callable, *args: Tensor, **kwargs: object) -> Tensor:
        return attention.attention_pytorch(*args, **kwargs)

    model.model_options["transformer_options"]["optimized_attention_override"] = plain
    return model


def forward(model: ModelPatcher) -> ModelPatcher:
    """A block's attention replaced by one that enhances its result, as packs for videos do."""
    model = model.clone()
    block = model.get_model_object("diffusion_model").blocks[1].self_attn

    def enhanced(self: torch.nn.Module, *args: object, **kwargs: object) -> Tensor:
        return 1.01 * type(self).forward(self, *args, **kwargs)

    own = functools.partial(enhanced, block)
    model.add_object_patch("diffusion_model.blocks.1.self_attn.forward", own)
    return model


def feed_forward(model: ModelPatcher) -> ModelPatcher:
    """The feed-forward layers in pieces, to save memory."""
    model = model.clone()
    for index, block in enumerate(model.get_model_object("diffusion_model").blocks):
        own = block.ffn

        def pieces(x: Tensor, own: Callable = own) -> Tensor:
            return torch.cat([own.__class__.forward(own, part) for part in x.chunk(2, dim=1)], 1)

        model.add_object_patch(f"diffusion_model.blocks.{index}.ffn.forward", pieces)
    return model


def _wrapper(kind: str, call: Callable) -> Callable[[ModelPatcher], ModelPatcher]:
    def put(model: ModelPatcher) -> ModelPatcher:
        model = model.clone()
        model.add_wrapper_with_key(kind, "another_pack", call)
        return model

    return put


def _through(executor: Callable, *args: object, **kwargs: object) -> object:
    return executor(*args, **kwargs)


def _brighter(executor: Callable, *args: object, **kwargs: object) -> Tensor:
    return 1.01 * executor(*args, **kwargs)


def attention_patch(model: ModelPatcher) -> ModelPatcher:
    """A patch that sees what self-attention answers."""
    model = model.clone()
    model.set_model_attn1_patch(lambda given: 1.01 * given["x"])
    return model


def block_replacement(model: ModelPatcher) -> ModelPatcher:
    """A block that runs inside another function."""
    model = model.clone()

    def around(given: dict, extra: dict) -> dict:
        return {"img": 1.01 * extra["original_block"](given)["img"]}

    model.set_model_patch_replace(around, "dit", "double_block", 1)
    return model


def unet_wrapper(model: ModelPatcher) -> ModelPatcher:
    """What stands around the model of U-nets since there are such."""
    model = model.clone()
    model.set_model_unet_function_wrapper(
        lambda apply, given: 1.01 * apply(given["input"], given["timestep"], **given["c"])
    )
    return model


def guidance(model: ModelPatcher) -> ModelPatcher:
    """A function in the place of the host's guidance."""
    model = model.clone()
    model.set_model_sampler_cfg_function(
        lambda given: given["uncond"] + 1.5 * (given["cond"] - given["uncond"])
    )
    return model


def skipping_cache(model: ModelPatcher) -> ModelPatcher:
    """Answers every second call from what the first one gave, as caches of steps do."""
    last: list[Tensor] = []

    def cached(executor: Callable, *args: object, **kwargs: object) -> Tensor:
        if last:
            return last.pop()
        last.append(executor(*args, **kwargs))
        return last[0]

    return _wrapper(KINDS.DIFFUSION_MODEL, cached)(model)


PACKS: dict[str, Callable[[ModelPatcher], ModelPatcher]] = {
    "attention override": override,
    "attention forward": forward,
    "feed-forward in pieces": feed_forward,
    "attention patch": attention_patch,
    "block replacement": block_replacement,
    "function around the model": unet_wrapper,
    "guidance function": guidance,
    "cache of steps": skipping_cache,
    "wrapper of sampling": _wrapper(KINDS.OUTER_SAMPLE, _through),
    "wrapper of the sampler": _wrapper(KINDS.SAMPLER_SAMPLE, _through),
    "wrapper of all conditionings": _wrapper(KINDS.CALC_COND_BATCH, _through),
    "wrapper of predictions": _wrapper(KINDS.PREDICT_NOISE, _brighter),
    "wrapper of the model": _wrapper(KINDS.APPLY_MODEL, _brighter),
    "wrapper of the network": _wrapper(KINDS.DIFFUSION_MODEL, _brighter),
}
