"""Makes torch say that there are NVIDIA cards. For good: a process of its own has this tier."""

import contextlib
import functools
import threading
import types

import torch
import torch._dynamo
from device.cards import CARDS, RUNTIME, Card
from device.clocks import HOST, Event, Stream, numbered
from device.ledger import LEDGER
from device.tensors import EVERYWHERE, OnCard, look

CAPABILITY = (9, 0)
NAME = "Simulated GPU"


class _Current(threading.local):
    """The current card, which every thread has for itself."""

    index = 0


_CURRENT = _Current()


def install(*, cards: int, total_bytes: int) -> None:
    """To be called before anything of the host is imported."""
    for name, value in REPLACED.items():
        setattr(torch.cuda, name, value)
    CARDS.extend(Card(index, total_bytes) for index in range(cards))
    torch.Generator = _Generator
    for kind in (torch.nn.Parameter, OnCard):
        kind.data = property(lambda self: self.detach(), _set_data)
    for name in ("numpy", "tolist"):
        setattr(torch.Tensor, name, _looking(getattr(torch.Tensor, name)))
    torch._C._ensureCUDADeviceGuardSet()  # a guard that does nothing, as fake tensors have it
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") by way of the CPU
    EVERYWHERE.__enter__()
    run = threading.Thread.run

    def run_with_cards(self) -> None:
        with EVERYWHERE:
            run(self)

    threading.Thread.run = run_with_cards


def card(device=None) -> Card:
    return CARDS[numbered(device).index]


@contextlib.contextmanager
def _stream(stream: Stream | None):
    """Stands in for torch.cuda.stream."""
    if stream is None:
        yield
        return
    owner, before = card(stream.device), _CURRENT.index
    outer, owner.stream, _CURRENT.index = owner.stream, stream, stream.device.index
    try:
        yield
    finally:
        owner.stream, _CURRENT.index = outer, before


def _set_device(device) -> None:
    _CURRENT.index = numbered(device).index


def _synchronize(device=None) -> None:
    LEDGER.wait("cuda.synchronize")
    for stream in Stream.all:
        HOST.join(stream.clock)


def _stats(device=None) -> dict[str, int]:
    used = card(device).used_bytes
    return {"reserved_bytes.all.current": used, "active_bytes.all.current": used}


def _properties(device=None) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        major=CAPABILITY[0],
        minor=CAPABILITY[1],
        name=NAME,
        total_memory=card(device).total_bytes,
        multi_processor_count=100,
        gcnArchName="",
    )


class _Generator:
    """torch.Generator, of which the CUDA kind is one of the CPU here."""

    _of_torch = torch.Generator

    def __new__(cls, device="cpu"):
        return cls._of_torch("cpu")


def _set_data(self: torch.Tensor, value: torch.Tensor) -> None:
    """`parameter.data = value`, across the border too."""
    if isinstance(self, OnCard) or isinstance(value, OnCard):
        torch.utils.swap_tensors(self, torch.nn.Parameter(value, requires_grad=False))
    else:
        torch._C.TensorBase.data.__set__(self, value)


def _looking(method):
    """Reads of the host that are no operation."""

    @functools.wraps(method)
    def looking(self, *args, **kwargs):
        if not isinstance(self, OnCard):
            look(self)
        return method(self, *args, **kwargs)

    return looking


def _nothing(*args, **kwargs) -> None:
    pass


REPLACED = {
    "_lazy_init": _nothing,
    "init": _nothing,
    "is_initialized": lambda: True,
    "is_available": lambda: True,
    "device_count": lambda: len(CARDS),
    "current_device": lambda: _CURRENT.index,
    "set_device": _set_device,
    "get_device_properties": _properties,
    "get_device_name": lambda device=None: NAME,
    "get_device_capability": lambda device=None: CAPABILITY,
    "is_bf16_supported": lambda *_, **__: True,
    "memory_stats": _stats,
    "mem_get_info": lambda device=None: RUNTIME.cudaMemGetInfo(numbered(device).index),
    "memory_allocated": lambda device=None: card(device).used_bytes,
    "max_memory_allocated": lambda device=None: card(device).peak_bytes,
    "reset_peak_memory_stats": lambda device=None: card(device).forget_peak(),
    "empty_cache": _nothing,
    "ipc_collect": _nothing,
    "synchronize": _synchronize,
    "Stream": Stream,
    "Event": Event,
    "stream": _stream,
    "current_stream": lambda device=None: card(device).stream,
    "default_stream": lambda device=None: card(device).default,
    "cudart": lambda: RUNTIME,
    "get_allocator_backend": lambda: "native",
    "get_rng_state": lambda device=None: torch.get_rng_state(),
    "set_rng_state": _nothing,
    "manual_seed": _nothing,
    "manual_seed_all": _nothing,
}
