"""Weights out of a pickle such as `.pt`, read without running anything that the file asks for.

PyTorch reads tensors and plain values alone and stops at all else. Training files hold a few other
values beside their weights: numbers and arrays of numpy, settings, paths. In the place of each
stands something of ours that takes what the file says and does nothing; arrays of numpy become
tensors by their bytes. Numpy's own functions are never called: with them a file can say that its
bytes are addresses.
"""

import contextlib
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping

import comfy.utils
import torch
from torch import Tensor

_VALUES = re.compile(
    r"(numpy|omegaconf|pathlib|datetime)\.|argparse\.Namespace$|types\.SimpleNamespace$"
    r"|(pytorch_)?lightning\.|torch\.torch_version\.TorchVersion$|bytes$"
)
_DTYPES = {
    f"{kind}{size}": getattr(torch, f"{name}{8 * size}")
    for kind, name, sizes in (("f", "float", (2, 4, 8)), ("i", "int", (1, 2, 4, 8)))
    for size in sizes
} | {"u1": torch.uint8, "b1": torch.bool}


class Refused(ValueError):
    """A file asks for more than plain values; `name` is what it asks for first."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def load_pickle(path: str) -> Mapping:
    """The mapping in a file; arrays of numpy in it are tensors, other objects mean nothing.

    Raises:
        Refused: there is something in it that might have to be run to be read.
        pickle.UnpicklingError: the file is damaged or no pickle.
    """
    stand_ins: dict[str, tuple[Callable, str]] = {}
    while True:
        try:
            with _only(list(stand_ins.values())):
                # Mapped where the format allows: of the models in a training file one is read.
                mmap = not comfy.utils.DISABLE_MMAP and zipfile.is_zipfile(path)
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            return content if isinstance(content, Mapping) else {}
        except pickle.UnpicklingError as error:
            asked = re.search(r"GLOBAL (\S+)", str(error))
            if asked is None:
                raise
            name = asked[1]
        if name in stand_ins or not _VALUES.match(name):
            raise Refused(name)
        stand_ins[name] = _stand_in(name)


def tensors(content: Mapping, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested mappings by dotted name, without the words `state_dict`."""
    for key, value in content.items():
        name = path if key == "state_dict" else (*path, str(key))
        if isinstance(value, Mapping):
            yield from tensors(value, name)
        elif isinstance(value, Tensor):
            yield ".".join(name), value
        elif isinstance(value, _Array) and value.tensor is not None:
            yield ".".join(name), value.tensor


@contextlib.contextmanager
def _only(allowed: list[tuple[Callable, str]]) -> Iterator[None]:
    """Let PyTorch take these alone; the host lets it take some of numpy and of Lightning."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*allowed])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


class _Nothing:
    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Dtype(_Nothing):
    def __init__(self, code: object = None, *_: object) -> None:
        self.code, self.order = code, None

    def __setstate__(self, state: tuple) -> None:  # type: ignore[override]
        self.order = state[1]


class _Array(_Nothing):
    tensor: Tensor | None = None

    def __setstate__(self, state: tuple) -> None:  # type: ignore[override]
        _, shape, dtype, by_columns, data = state
        known = isinstance(dtype, _Dtype) and isinstance(dtype.code, str)
        kind = _DTYPES.get(dtype.code) if known else None
        if kind is None or dtype.order == ">" or not isinstance(data, bytes):
            return
        stored = shape[::-1] if by_columns else shape
        flat = torch.frombuffer(bytearray(data), dtype=kind) if data else torch.zeros(0, dtype=kind)
        self.tensor = flat.reshape(stored)
        if by_columns:
            self.tensor = self.tensor.permute(*reversed(range(len(shape)))).contiguous()


def _stand_in(name: str) -> tuple[Callable, str]:
    """A class of its own for each name: PyTorch asks whether what it builds is one of those."""
    if name == "bytes":  # an array without elements asks for it
        return _no_bytes, "builtins.bytes"
    base: type = _Nothing
    if name == "numpy.dtype":
        base = _Dtype
    elif name == "numpy.ndarray" or name.endswith(".multiarray._reconstruct"):
        base = _Array
    return type(base.__name__, (base,), {}), name


def _no_bytes(*_: object) -> bytes:
    return b""
