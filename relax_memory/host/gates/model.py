"""What a MODEL may carry: options, patches, wrappers, other models.

Most of it the host itself calls in every pass, and the rollout counts the layers of each. Refused
is what a chunk cannot follow; said is what no Wan 2.1 model calls.
"""

import inspect
from collections.abc import Callable, Iterator

import comfy.model_sampling
from comfy.model_patcher import ModelPatcher

from ..model.suspects import name_of
from .conditioning import skips_negative
from .unused import PATCHES, never_called, unused_patches
from .words import listed

OPTIONS = {  # of a model
    *("transformer_options", "sampler_cfg_function", "sampler_pre_cfg_function"),
    *("sampler_post_cfg_function", "sampler_calc_cond_batch_function", "model_function_wrapper"),
    *("disable_cfg1_optimization", "denoise_mask_function", "registered_hooks", "to_load_options"),
    *("ignore_multigpu", "multigpu_options", "torch_compile_kwargs"),
    *("dtype", "weight_dtype", "load_device", "offload_device", "initial_device"),  # of loaders
    *("custom_operations", "fp8_optimizations", "quantization_metadata", "model_config"),
}
TRANSFORMER_OPTIONS = {
    *("patches", "patches_replace", "wrappers", "callbacks", "optimized_attention_override"),
    *("rope_options", "ar_config", "cond_or_uncond", "uuids", "sigmas", "sample_sigmas"),
    *("block", "block_index", "block_type", "total_blocks", "grid_sizes", "model_patch_data"),
    *("prefetch_dynamic_vbars", "activations_shape", "original_shape", "transformer_index"),
}
OURS = "relax_forcing"
CACHES = ("easycache", "lazycache", "teacache", "magcache", "cachedit", "firstblockcache")
SOUND = ("audio_embeds", "infinite_talk_outer_sample")
BY_FRAME = ("VideoLinearCFGGuidance", "VideoTriangleCFGGuidance")  # whose frames are a batch


def check_model(model: ModelPatcher) -> list[str]:
    """What of this model takes no part, in sentences to be said.

    Raises:
        ValueError: it carries what a rollout cannot follow.
    """
    options = model.model_options
    inner = options.get("transformer_options", {})
    _check_sampling(model)
    check_devices(model)
    names = {*options, *inner, *(key for _, key in _wrapper_keys(model))}
    for name in sorted(map(str, names)):
        _check_name(name)
    if options.get("context_handler") is not None:
        raise ValueError(
            "model has context windows, but what a chunk sees is what memory gives it: remove the "
            "context windows node; the memory node takes its place."
        )
    _check_guidance(options.get("sampler_cfg_function"))
    for name in PATCHES:
        for patch in inner.get("patches", {}).get(name, ()):
            _check_patch(name, patch)
    notes = never_called(unused_patches(inner))
    unknown = [
        key
        for keys, known in ((options, OPTIONS), (inner, TRANSFORMER_OPTIONS))
        for key in keys
        if key not in known and not str(key).startswith(OURS)
    ]
    if unknown:
        notes.append(f"model carries {listed(unknown)}, which Relax Forcing does not know.")
    return notes


def _check_sampling(model: ModelPatcher) -> None:
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.CONST):
        kinds = [kind.__name__ for kind in type(sampling).__mro__[1:3]]
        raise ValueError(
            f"model samples as {listed(kinds)}, but a Wan 2.1 model is a flow: remove the model "
            "sampling node for other models; Model Sampling SD3 sets the shift."
        )


def check_devices(model: ModelPatcher) -> None:
    """Raise ValueError where a model is spread over several GPUs."""
    if model.get_additional_models_with_key("multigpu"):
        raise ValueError(
            "model is spread over several GPUs, but its memory lies on one: use the model "
            "without the multi-GPU node."
        )


def _check_name(name: str) -> None:
    plain = name.lower().replace("_", "")
    if any(cache in plain for cache in CACHES):
        raise ValueError(
            f"model has {name}, which leaves out steps or blocks, but what is remembered must come "
            "from all of them: remove that node."
        )
    if name in SOUND:
        raise ValueError(
            f"model has sound to be followed ({name}), which chunks cannot do: use the model "
            "without that node."
        )


def _check_patch(name: str, patch: Callable) -> None:
    try:
        inspect.signature(patch).bind({})
    except TypeError as error:
        raise ValueError(
            f"model has the {name} {name_of(patch)}, which is written for another kind of model "
            "than Wan 2.1: remove the node that adds it."
        ) from error
    except ValueError:  # a builtin, which does not tell
        return


def _check_guidance(guidance: object) -> None:
    name = name_of(guidance)
    if name.startswith(BY_FRAME):
        raise ValueError(
            f"model has the guidance {name}, which gives each video of a batch a cfg of its own "
            "and means its frames: remove that node; CFG Override sets cfg for some of the steps."
        )


def _wrapper_keys(model: ModelPatcher) -> Iterator[tuple[str, object]]:
    inner = model.model_options.get("transformer_options", {})
    for wrappers in (model.wrappers, inner.get("wrappers", {})):
        for kind, by_key in wrappers.items():
            yield from ((kind, key) for key, calls in by_key.items() if calls)


def without_negative(cfg: float, options: dict) -> list[str]:
    """What there is to say of guidance where cfg leaves the negative conditioning out."""
    found = [options.get("sampler_cfg_function"), *options.get("sampler_pre_cfg_function", ())]
    names = listed(name_of(call) for call in found if call is not None)
    if not names or not skips_negative(cfg, options):
        return []
    return [
        f"model has the guidance {names}, but at cfg 1.0 the host leaves the negative conditioning "
        "out and gives zeros instead: set cfg above 1.0, or remove that node."
    ]
