"""Hashes of values by their content, the same after a restart of the host and in another folder.

Knows nothing of what a MODEL is. What cannot be compared gets a new hash each time: then nothing
saved is found again, but nothing wrong is ever continued.
"""

import dis
import functools
import hashlib
import logging
import secrets
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import PurePath
from uuid import UUID

import numpy
import torch
from comfy.hooks import HookKeyframeGroup
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter.bypass import BypassForwardHook
from torch import Tensor

PACKAGE = __name__.partition(".host.")[0].rpartition(".")[2]
SMALL_ELEMENTS = 2**16  # biases, norms, masks and LoRAs of small models count whole
WEIGHT_SAMPLES = 64  # of bigger weights; a training step changes nearly all of their elements
PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice),
    *(PurePath, numpy.generic, torch.dtype, torch.device),
)
MADE = (  # what of a class decides what its objects do
    *(types.FunctionType, staticmethod, classmethod, property, dict, list, tuple, Tensor),
)
# Their classes of today are those of tomorrow; some are made anew for each card and model.
BY_NAME = ("builtins", "comfy", "torch")
BOOKKEEPING = {
    *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__"),
    *("__static_attributes__", "__annotations__", "__dataclass_fields__"),
}
SETTINGS = {  # the rest of these is where a run is or was
    HookKeyframeGroup: lambda group: [
        (frame.strength, frame.start_percent, frame.guarantee_steps) for frame in group.keyframes
    ],
    BypassForwardHook: lambda hook: (hook.adapter, hook.multiplier),
    UUID: lambda _: (),  # the host gives prompts new ones each time
    property: lambda made: (made.fget, made.fset),
    staticmethod: lambda made: (made.__func__,),
    classmethod: lambda made: (made.__func__,),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """Marks tensors of which samples count where they are big; of others all bytes do."""

    held: object


class Digest:
    """Hashes of values by their content, each object once.

    Args:
        known: objects that stand for something by name, and the names.
        unfold: what a MODEL holds that counts.
    """

    def __init__(
        self,
        known: Iterable[tuple[object, str]] = (),
        unfold: Callable[[ModelPatcher], object] = lambda model: model.model,
    ) -> None:
        self._met = [value for value, _ in known]  # kept alive, so that ids stay theirs
        self._known = {id(value): name.encode() for value, name in known}
        self._unfold = unfold
        self._in_weights = False

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
        value = uncompiled(value)
        if id(value) not in self._known:
            self._met.append(value)
            self._known[id(value)] = b"cycle"
            kinds = [own for kind in type(value).__mro__ for own in _of_class(kind)]
            parts = *map(self._hash, kinds), *self._parts(value)
            self._known[id(value)] = _join(_name(type(value)), *parts)
        return self._known[id(value)]

    def _parts(self, value: object) -> Iterator[bytes]:
        match value:
            case Tensor():
                yield from self._tensor(value)
            case numpy.ndarray():
                yield f"{value.dtype} {list(value.shape)}".encode()
                yield value.tobytes()
            case Weights(held):
                before, self._in_weights = self._in_weights, True
                yield self._hash(held)
                self._in_weights = before
            case ModelPatcher():
                yield self._hash(self._unfold(value))
            case weakref.ReferenceType():
                yield self._hash(value())
            case set() | frozenset():
                yield from sorted(map(self._hash, value))
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
        sampled = self._in_weights or isinstance(tensor, torch.nn.Parameter)
        flat = tensor.detach().as_subclass(Tensor).resolve_conj().resolve_neg().reshape(-1)
        if sampled and flat.numel() > SMALL_ELEMENTS:
            flat = flat[:: flat.numel() // WEIGHT_SAMPLES | 1]  # odd: not one column alone
        yield flat.cpu().contiguous().view(torch.uint8).numpy().tobytes()


def is_ours(value: object) -> bool:
    """Whether a class, function, method or object is of this pack, whatever imported the pack."""
    while isinstance(value, types.MethodType | functools.partial):
        value = value.__func__ if isinstance(value, types.MethodType) else value.func
    kind = value if isinstance(value, type | types.FunctionType) else type(value)
    return PACKAGE in _module(kind)[1].split(".")


def is_of_a_pack(made: type | types.FunctionType) -> bool:
    """Whether a class or function is of another pack of nodes, which the host loads by its path."""
    return bool(_module(made)[0]) and not is_ours(made)


def uncompiled(value: object) -> object:
    """The module that torch.compile has wrapped, or the value itself."""
    return getattr(value, "_orig_mod", value) if isinstance(value, torch.nn.Module) else value


def settings(value: object) -> object:
    """A frozen dataclass as the name of its class and its fields, wherever the class is kept."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    held = [(field.name, settings(getattr(value, field.name))) for field in fields(value)]
    return type(value).__name__, held


def _held(value: object) -> Iterable[object]:
    """The values that tell this one from others of its type and name."""
    match value:
        case dict() | types.MappingProxyType():
            return *(part for item in value.items() for part in item), *_attributes(value)
        case list() | tuple():
            return *value, *_attributes(value)
        case types.ModuleType():
            return ()
        case type():
            return _name(value), *_of_class(value)
        case types.FunctionType():
            return _name(value), *_captured(value)
        case types.MethodType() | types.BuiltinFunctionType():
            return getattr(value, "__func__", None), value.__self__
        case functools.partial():
            return value.func, value.args, value.keywords
        case _ if type(value) in SETTINGS:
            return SETTINGS[type(value)](value)
    return [*_attributes(value, even_none=True), *_reduced(value)] or [_unlike_any(value)]


def _attributes(value: object, *, even_none: bool = False) -> Iterator[object]:
    """What an object has by names, also where it could have some and has none."""
    attributes = getattr(value, "__dict__", None)
    if attributes or (even_none and attributes is not None):
        yield attributes
    for kind in type(value).__mro__:
        if "__slots__" in vars(kind):
            members = vars(kind).values()
            slots = [m for m in members if isinstance(m, types.MemberDescriptorType)]
            yield [(m.__name__, m.__get__(value)) for m in slots if hasattr(value, m.__name__)]


def _reduced(value: object) -> tuple:
    """What a value of a type that is not written in Python holds, if it compares by that."""
    kind = type(value)
    if kind.__reduce__ is object.__reduce__ or kind.__eq__ is object.__eq__:
        return ()
    reduced = tuple(value.__reduce_ex__(2))
    return tuple(list(part) if hasattr(part, "__next__") else part for part in reduced)


def _of_class(kind: type) -> Iterator[object]:
    """What a class has beside its name: all if it was made by a function, settings of a pack."""
    if is_ours(kind) or kind.__module__.partition(".")[0] in BY_NAME:
        return
    counting: tuple[type, ...] = PLAIN
    if not _is_found(kind):
        counting = (*PLAIN, *MADE)
    elif not is_of_a_pack(kind):
        return
    held = {name: part for name, part in vars(kind).items() if isinstance(part, counting)}
    for name in BOOKKEEPING & held.keys():
        del held[name]
    if held:
        yield held


def _captured(function: types.FunctionType) -> Iterator[object]:
    """What a function holds; of one without a name of its own, its code too."""
    yield from (function.__defaults__, function.__kwdefaults__, function.__dict__)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            yield None
    yield from _read(function)
    if not _is_found(function):
        yield _code(function.__code__)


def _read(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """Plain values of its module that a function reads, and names of functions; what it sets itself
    is where a run is."""
    if not set(function.__code__.co_names) & function.__globals__.keys():
        return
    told = list(dis.get_instructions(function.__code__))
    set_here = {part.argval for part in told if part.opname == "STORE_GLOBAL"}
    for name in sorted({part.argval for part in told if part.opname == "LOAD_GLOBAL"} - set_here):
        value = function.__globals__.get(name)
        if isinstance(value, types.FunctionType):
            yield name, _name(value)
        elif value is not None and isinstance(value, PLAIN) and not name.startswith("__"):
            yield name, value


def _is_found(made: type | types.FunctionType) -> bool:
    """Whether a class or function stands in its module under its own name."""
    found: object = sys.modules.get(made.__module__)
    for name in made.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return getattr(found, "__func__", found) is made


def _code(code: types.CodeType) -> tuple:
    constants = [_code(c) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    return code.co_code, code.co_names, constants


def _name(kind: type | types.FunctionType) -> bytes:
    """Name and module, without the folder of the pack that it is from; of this pack, the name."""
    folder, module = _module(kind)
    if folder:
        module = module.partition(".")[2]
    return f"{'' if is_ours(kind) else module}.{kind.__qualname__}".encode()


def _module(kind: type | types.FunctionType) -> tuple[str, str]:
    """The folder that the host puts before the modules of a pack of nodes, and the module."""
    folder, _, module = str(kind.__module__).replace("\\", "/").rpartition("/")
    return folder, module


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
