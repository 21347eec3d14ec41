"""What a rollout is made from, as fingerprints that are the same after a restart of the host.

A MODEL does not say which file it came from, and the host's own ids are new in every process. So a
fingerprint is made from content: samples of weights and LoRA tensors, all bytes of other tensors,
and the values that patches and their functions hold. What cannot be compared gets a new fingerprint
each time: then nothing saved is found again, but nothing wrong is ever continued.
"""

import functools
import hashlib
import logging
import secrets
import types
import weakref
from collections.abc import Iterable, Iterator
from pathlib import PurePath

import numpy
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..loading.recipe import RECIPE
from ..options import KEY

WEIGHT_SAMPLES = 64  # of each tensor; a training step changes nearly all of its elements
PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice),
    *(PurePath, numpy.generic, torch.dtype, torch.device),
)
NOT_COMPARED = {  # how to compute, not what; memory has a fingerprint of its own
    *("callbacks", "optimized_attention_override", "torch.compile", "torch_compile_kwargs"),
    *(KEY, RECIPE),  # a recipe counts by the values that it resolves to
}

logger = logging.getLogger(__name__)


def fingerprint(value: object) -> str:
    """Fingerprint of conditioning, latents or plain values: all bytes of their tensors count."""
    return Digest().of(value)


def model_fingerprints(model: ModelPatcher) -> dict[str, str]:
    """Fingerprints of a model with memory: of its weights, of all that patches it, of its policy.

    Weights are those before any LoRA, whether or not the host has one applied at the moment.
    """
    digest = Digest(model, samples=WEIGHT_SAMPLES)
    network = model.model.diffusion_model
    remembered = model.model_options["transformer_options"][KEY]
    base = [type(model.model), type(network), model.model.get_dtype_inference()]
    weights = {
        f"{prefix}{name}": _original(model, f"{prefix}{name}", module, name)
        for prefix, module in _modules(network)
        for name in dict(module.named_parameters(recurse=False))
    }
    return {
        "model": digest.of((base, weights)),
        "LoRAs and model patches": digest.of(_patches(model)),
        "memory": digest.of((remembered.policy, remembered.storage.dtype)),
    }


def _modules(network: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """All modules, each with what comes before its parameters' names."""
    return [(f"{name}." if name else "", module) for name, module in network.named_modules()]


def _original(model: ModelPatcher, name: str, module: torch.nn.Module, own_name: str) -> Tensor:
    key = f"diffusion_model.{name}"
    if key in model.hook_backup:
        return model.hook_backup[key][0]
    if key in model.backup:
        return model.backup[key].weight
    weight = getattr(module, own_name)
    if next(module.children(), None) is not None:
        # With dynamic VRAM it has the file's dtype, until the host first loads it and casts it.
        weight = weight.detach().to(dtype=getattr(module, f"{own_name}_comfy_model_dtype", None))
    return weight


def _patches(model: ModelPatcher) -> tuple:
    return (
        model.patches,
        model.object_patches,
        model.weight_wrapper_patches,
        model.hook_patches,
        model.wrappers,
        model.injections,
        model.additional_models,
        model.model_options,
        model.get_model_object("model_sampling"),
    )


class Digest:
    """Hashes of values by their content, each object once.

    Args:
        model: its base model stands for itself wherever it is met.
        samples: elements that count of each tensor; None: all.
    """

    def __init__(self, model: ModelPatcher | None = None, *, samples: int | None = None) -> None:
        self._samples = samples
        self._known: dict[int, bytes] = {}
        self._met: list[object] = []  # kept alive, so that ids stay theirs
        if model is not None:
            self._known[id(model.model)] = b"model"
            for name, module in model.model.diffusion_model.named_modules():
                self._known[id(module)] = f"module {name}".encode()

    def of(self, value: object) -> str:
        """Fingerprint of a value, 64 hexadecimal digits."""
        try:
            return self._hash(value).hex()
        except Exception:  # other packs' objects may raise anything when they are looked into
            logger.debug("No fingerprint", exc_info=True)
            return _unlike_any(value).hex()

    def _hash(self, value: object) -> bytes:
        if isinstance(value, PLAIN):
            return _join(_name(type(value)), repr(value).encode())
        if id(value) not in self._known:
            self._met.append(value)
            self._known[id(value)] = b"cycle"
            self._known[id(value)] = _join(_name(type(value)), *self._parts(value))
        return self._known[id(value)]

    def _parts(self, value: object) -> Iterator[bytes]:
        match value:
            case Tensor():
                yield from self._tensor(value)
            case numpy.ndarray():
                yield f"{value.dtype} {list(value.shape)}".encode()
                yield value.tobytes()
            case set() | frozenset():
                yield from sorted(map(self._hash, value))
            case weakref.ReferenceType():
                yield self._hash(value())
            case _:
                yield getattr(value, "__name__", "").encode()
                yield from map(self._hash, _held(value))

    def _tensor(self, tensor: Tensor) -> Iterator[bytes]:
        yield f"{tensor.dtype} {list(tensor.shape)}".encode()
        if hasattr(tensor, "__tensor_flatten__"):  # quantised: tensors in a tensor
            yield from (
                self._hash(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0]
            )
            return
        flat = tensor.detach().as_subclass(Tensor).reshape(-1)
        if self._samples is not None:
            flat = flat[:: flat.numel() // self._samples | 1]  # odd: not one column alone
        yield flat.cpu().contiguous().view(torch.uint8).numpy().tobytes()


def _held(value: object) -> Iterable[object]:
    """The values that tell this one from others of its type and name."""
    match value:
        case dict():
            return [part for item in value.items() if item[0] not in NOT_COMPARED for part in item]
        case list() | tuple():
            return value
        case types.ModuleType():
            return ()
        case type() | types.FunctionType():
            return _name(value), *_captured(value)
        case types.MethodType() | types.BuiltinFunctionType():
            return getattr(value, "__func__", None), value.__self__
        case functools.partial():
            return value.func, value.args, value.keywords
        case ModelPatcher():
            return value.model, _patches(value)
        case torch.nn.Module(_orig_mod=module):  # compiled
            return (module,)
        case object(__dict__=attributes):
            return (attributes,)
    return (_unlike_any(value),)


def _captured(value: type | types.FunctionType) -> Iterator[object]:
    """What a function holds besides its code; nothing of a class."""
    for name in ("__defaults__", "__kwdefaults__"):
        yield getattr(value, name, None)
    for cell in getattr(value, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            yield None


def _name(kind: type | types.FunctionType) -> bytes:
    """Module and name, without the folder that the host puts before a pack's modules."""
    module = kind.__module__.replace("\\", "/").rpartition("/")[2]
    return f"{module}.{kind.__qualname__}".encode()


def _unlike_any(value: object) -> bytes:
    logger.warning(
        "A %s in the model or conditioning cannot be compared, so autosave will not find this "
        "rollout by itself after a restart: use Relax Forcing Resume.",
        type(value).__qualname__,
    )
    return secrets.token_bytes(32)


def _join(*parts: bytes) -> bytes:
    joined = hashlib.sha256()
    for part in parts:
        joined.update(len(part).to_bytes(8, "little") + part)
    return joined.digest()
