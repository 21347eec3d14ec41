"""How keys and values are copied: many in one launch, and to host memory and back beside computing.

On CUDA what goes to pinned host memory and comes from there runs on a stream of its own, in the
order it is asked for; elsewhere at once.
"""

import logging
import weakref
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger(__name__)


def has_streams(device: torch.device) -> bool:
    """Whether copies can run beside computing, to and from pinned memory: CUDA and ROCm."""
    return device.type == "cuda"


@dataclass(frozen=True, kw_only=True)
class Ways:
    """What a user lets copies do: `pins` host memory, and run `beside` computing."""

    pins: bool = True
    beside: bool = True


def upload(tensor: Tensor, device: torch.device, ways: Ways = Ways()) -> Tensor:
    """`tensor` on `device`, by way of pinned memory where that spares the host a wait."""
    up = ways.beside and has_streams(device) and tensor.device.type == "cpu"
    if up and ways.pins:
        with suppress(RuntimeError):  # no more memory can be pinned
            tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=up)


class Copies:
    """Pairs of a target and what is copied there; no target may be the source of another.

    Row by row, of `[rows, ...]`: torch makes one launch of them only where all lie dense.
    """

    def __init__(self) -> None:
        self._targets: list[Tensor] = []
        self._sources: list[Tensor] = []

    def add(self, target: Tensor, source: Tensor) -> None:
        self._targets += target.unbind()
        self._sources += source.unbind()

    def run(self) -> None:
        if self._targets:
            torch._foreach_copy_(self._targets, self._sources)


class Transfer:
    """A side stream of `device`, and the host memory that it copies to and from."""

    def __init__(self, device: torch.device, ways: Ways = Ways()) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if ways.beside and has_streams(device) else None
        self._pinned: dict[int, int] = {}  # bytes by address
        self._can_pin = ways.pins

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Host memory, pinned on CUDA while the tensor lives.

        Registered rather than allocated as pinned: torch's own pinned memory is rounded up to a
        power of two and kept for good.
        """
        tensor = torch.empty(shape, dtype=dtype, device="cpu")
        if self._stream is not None and self._can_pin and tensor.nbytes:
            address = tensor.data_ptr()
            error = int(torch.cuda.cudart().cudaHostRegister(address, tensor.nbytes, 0))
            if error == 0:
                self._pinned[address] = tensor.nbytes
                weakref.finalize(tensor, _unpin, self._pinned, address, self._stream)
            else:
                self._can_pin = False  # once refused it is not asked for again
                self._forget_error()
                log.warning(
                    "reservoir_device: no more host memory could be pinned than %.1f MB (CUDA "
                    "error %d), so copies to the rest wait for each other.",
                    sum(self._pinned.values()) / 1e6,
                    error,
                )
        return tensor

    def _forget_error(self) -> None:
        """CUDA reports a failed call once more, to the next kernel: let that be one of no use."""
        with suppress(RuntimeError):
            torch.zeros(1, device=self._device).add_(1)
            torch.cuda.synchronize(self._device)

    def send(self, source: Tensor, target: Tensor) -> None:
        """Copy `source`, as it is once the work queued so far is done, to host memory."""
        if self._stream is None:
            target.copy_(source)
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
        source.record_stream(self._stream)

    def fetch(self, source: Tensor) -> "Arrival":
        """Start copying host memory to the device, after everything sent before."""
        if self._stream is None:
            return Arrival(source.to(self._device), None)
        with torch.cuda.stream(self._stream):
            tensor = source.to(self._device, non_blocking=True)
            return Arrival(tensor, self._stream.record_event())


class Arrival:
    """A tensor on its way to the device."""

    def __init__(self, tensor: Tensor, event: torch.cuda.Event | None) -> None:
        self._tensor = tensor
        self._event = event

    def tensor(self) -> Tensor:
        """The tensor, for use on the current stream, which waits for it; the caller does not."""
        if self._event is not None:
            stream = torch.cuda.current_stream(self._tensor.device)
            stream.wait_event(self._event)
            self._tensor.record_stream(stream)
        return self._tensor


def _unpin(pinned: dict[int, int], address: int, stream: torch.cuda.Stream) -> None:
    stream.synchronize()
    torch.cuda.cudart().cudaHostUnregister(address)
    del pinned[address]
