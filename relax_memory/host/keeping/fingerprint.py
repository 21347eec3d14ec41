"""What a rollout is made from, as fingerprints that are the same after a restart of the host.

A MODEL does not say which file it came from, and the host's own ids are new in every process. So it
is known by its content: by its weights and kinds of layers, and by all that was put into it. What
this pack puts there counts by its settings alone, and what only rounds differently does not count.
"""

from collections.abc import Iterator
from types import FunctionType, MethodType

import comfy.ldm.modules.attention
import comfy.ldm.wan.model
import torch
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter.bypass import BypassForwardHook
from torch import Tensor

from ..options import KEY, remembered
from .digest import Digest, Weights, is_of_a_pack, is_ours, settings, uncompiled

NETWORK = "diffusion_model"
COMPILED = ("torch.compile", "torch_compile_kwargs")  # last bits, as another GPU
FILE = "lora_metadata"  # of the file that a LoRA came from
# The same function of the same numbers; others, such as sage's, approximate it.
EXACT_ATTENTION = ("basic", "flash", "pytorch", "split", "sub_quad", "xformers")


def fingerprint(value: object) -> str:
    """Fingerprint of conditioning, latents or plain values: all bytes of their tensors count."""
    return Digest().of(value)


def host_fingerprint() -> str:
    """Fingerprint of what the host approximates, by its options or by another pack's doing."""
    attention = comfy.ldm.modules.attention
    exact = [getattr(attention, f"attention_{name}") for name in EXACT_ATTENTION]
    used = (attention.optimized_attention, comfy.ldm.wan.model.optimized_attention)
    fp16_sums = getattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", False)
    counting = [function for function in used if function not in exact]
    return fingerprint((counting + [f for f in _functions_of_packs() if f not in used], fp16_sums))


def _functions_of_packs() -> Iterator[object]:
    """Those that another pack has put into the place of the host's own, where Wan is computed."""
    wan = vars(comfy.ldm.wan.model)
    classes = [kind for kind in wan.values() if isinstance(kind, type)]
    for held in (wan, *map(vars, classes)):
        for value in held.values():
            if isinstance(value, FunctionType) and is_of_a_pack(value):
                yield value


def model_fingerprints(model: ModelPatcher) -> dict[str, str]:
    """Fingerprints of a model with memory: of its weights, of all that patches it, of its policy.

    Weights are those before any LoRA, whether or not the host has one applied at the moment.
    """
    parts = _Parts(model)
    known = [(model.model, "model"), *((module, name) for name, module in parts.modules.items())]

    def unfold(other: ModelPatcher) -> tuple:
        others = _Parts(other)
        return (None if other.model is model.model else others.base()), others.patches()

    options = remembered(model)
    return {
        "model": Digest(known, unfold).of(parts.base()),
        "LoRAs and model patches": Digest(known, unfold).of(parts.patches()),
        "memory": fingerprint((settings(options.policy), options.storage.dtype)),
    }


class _Parts:
    """What a MODEL holds, its modules as they were before the host put any patch into them."""

    def __init__(self, model: ModelPatcher) -> None:
        self._model = model
        self.modules = dict(_walk("", model.model, model.object_patches_backup))

    def base(self) -> tuple:
        """Precision, kinds of layers and weights."""
        layers = {name: (type(m), *self._numbers(name)) for name, m in self.modules.items()}
        weights = {
            f"{name}.{own}": _original(self._model, f"{name}.{own}", module, own)
            for name, module in self.modules.items()
            for own in (*module._parameters, *module._buffers)
            if getattr(module, own) is not None
        }
        dtypes = [self._own("manual_cast_dtype"), getattr(self._own(NETWORK), "dtype", None)]
        return type(self._model.model), dtypes, layers, Weights(weights)

    def patches(self) -> tuple:
        """All that nodes have put into the model."""
        model = self._model
        others = [
            list(self._objects()),
            model.weight_wrapper_patches,
            model.wrappers,
            model.callbacks,
            model.injections,
            model.additional_models,
            model.attachments,
            model.forced_hooks,
            model.model_options,
            self._own("model_sampling"),
        ]
        return Weights((model.patches, model.hook_patches)), _foreign(others)

    def _own(self, name: str) -> object:
        """An object of the model, by which a node may have replaced it."""
        for held in (self._model.object_patches, self._model.object_patches_backup):
            if name in held:
                return held[name]
        return getattr(self._model.model, name, None)

    def _objects(self) -> Iterator[tuple[str, object]]:
        """What stands in the place of the model's own objects, by name."""
        patches = dict(self._replaced()) | self._model.object_patches
        for name, value in patches.items():
            if is_ours(value):
                value = getattr(value, "original", None)
            value = uncompiled(value)
            if value is not None and not self._is_own(name, value):
                yield name, value

    def _numbers(self, name: str) -> list[tuple[str, object]]:
        """Settings of a layer, such as the eps of a norm, that can be changed past the patcher."""
        held = vars(self.modules[name]).items() if name.startswith(NETWORK) else ()
        before = self._model.object_patches_backup
        first = [(own, before.get(f"{name}.{own}", value)) for own, value in held]
        return [(own, value) for own, value in first if isinstance(value, float)]

    def _is_own(self, name: str, value: object) -> bool:
        """Whether this is what stood there first: a module, or a method as its class has it."""
        owner, _, own_name = name.rpartition(".")
        return value is self.modules.get(name) or (
            isinstance(value, MethodType)
            and value.__self__ is self.modules.get(owner)
            and value.__name__ == own_name
            and getattr(type(value.__self__), own_name, None) is value.__func__
        )

    def _replaced(self) -> Iterator[tuple[str, object]]:
        """Methods that were replaced in place, past the host's patcher."""
        before = self._model.object_patches_backup
        for name, module in self.modules.items():
            for method, value in vars(module).items():
                if callable(getattr(type(module), method, None)):
                    value = before.get(f"{name}.{method}", value)
                    injected = isinstance(getattr(value, "__self__", None), BypassForwardHook)
                    yield f"{name}.{method}", value.__self__.original_forward if injected else value


def _walk(
    name: str, module: torch.nn.Module, before: dict[str, object]
) -> Iterator[tuple[str, torch.nn.Module]]:
    """A module and those in it by name, each with the one that a patch has taken the place of."""
    yield name, module
    for own, child in module.named_children():
        inner = f"{name}.{own}".lstrip(".")
        if inner != "model_sampling":  # nothing of the network, and replaced by most loaders
            first = before.get(inner, child)
            assert isinstance(first, torch.nn.Module), f"{inner} was a module before it was patched"
            yield from _walk(inner, first, before)


def _original(model: ModelPatcher, key: str, module: torch.nn.Module, own_name: str) -> Tensor:
    if key in model.hook_backup:
        return model.hook_backup[key][0]
    if key in model.backup:
        return model.backup[key].weight
    if key in model.backup_buffers:
        return model.backup_buffers[key]
    weight = getattr(module, own_name)
    if next(module.children(), None) is not None:
        # With dynamic VRAM it has the file's dtype, until the host first loads it and casts it.
        weight = weight.detach().to(dtype=getattr(module, f"{own_name}_comfy_model_dtype", None))
    return weight


def _foreign(value: object) -> object:
    """Without what this pack put there or what does not count, and without what is empty then."""
    match value:
        case dict():
            kept = {k: _foreign(v) for k, v in value.items() if not _passed_over(k)}
            return {key: value for key, value in kept.items() if _holds(value)}
        case list() | tuple():
            return [kept for kept in map(_foreign, value) if _holds(kept)]
    return None if is_ours(value) else value


def _passed_over(key: object) -> bool:
    return isinstance(key, str) and (key.startswith(KEY) or key in (*COMPILED, FILE))


def _holds(value: object) -> bool:
    return value is not None and not (isinstance(value, dict | list) and not value)
