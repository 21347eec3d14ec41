"""Names what other nodes have put in the way of the model, for the sentence that refuses it."""

from collections.abc import Callable, Iterator

from comfy.ldm.wan.model import WanModel
from comfy.patcher_extension import WrappersMP, get_all_wrappers

from ..options import KEY

FUNCTIONS = ("model_function_wrapper", "sampler_calc_cond_batch_function")
GUIDANCE = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")
KINDS = (
    WrappersMP.PREDICT_NOISE,
    WrappersMP.CALC_COND_BATCH,
    WrappersMP.APPLY_MODEL,
    WrappersMP.DIFFUSION_MODEL,
)


def suspects(model_options: dict, network: WanModel, layer: int | None) -> list[str]:
    """Functions that may answer for the model, or for one of its blocks, each once."""
    found = (*_of_block(model_options, network, layer), *_of_model(model_options, network))
    return list(dict.fromkeys(map(name_of, found)))


def hooks(model_options: dict, network: WanModel) -> list[Callable]:
    """All functions that other nodes have put into a model and its guidance."""
    options = model_options.get("transformer_options", {})
    lists = [model_options.get(name) or [] for name in GUIDANCE]
    lists += options.get("patches", {}).values()
    calls = [call for each in lists for call in (each if isinstance(each, list) else [each])]
    for replaced in options.get("patches_replace", {}).values():
        calls += replaced.values()
    if "optimized_attention_override" in options:
        calls.append(options["optimized_attention_override"])
    return [*calls, *_of_model(model_options, network)]


def name_of(function: object) -> str:
    """A function as its pack's author would look for it: `wrapper of nodes_cache`."""
    function = getattr(function, "func", function)  # a partial
    kind = function if hasattr(function, "__qualname__") else type(function)
    module = (kind.__module__ or "").replace("\\", "/").rpartition("/")[2]
    return f"{kind.__qualname__.replace('.<locals>', '')} of {module}"


def _of_block(model_options: dict, network: WanModel, layer: int | None) -> Iterator[Callable]:
    if layer is None:
        return
    options = model_options.get("transformer_options", {})
    replaced = options.get("patches_replace", {}).get("dit", {})
    yield from (call for (_, block, *_), call in replaced.items() if block == layer)
    if "forward" in network.blocks[layer].__dict__:
        yield network.blocks[layer].forward


def _of_model(model_options: dict, network: WanModel) -> Iterator[Callable]:
    yield from (model_options[name] for name in FUNCTIONS if name in model_options)
    yield from (
        network.__dict__[name] for name in ("forward", "forward_orig") if name in network.__dict__
    )
    ours = model_options.get("transformer_options", {}).get("wrappers", {})
    for kind in KINDS:
        own = ours.get(kind, {}).get(KEY, [])
        wrappers = get_all_wrappers(kind, model_options, is_model_options=True)
        yield from (wrapper for wrapper in wrappers if wrapper not in own)
