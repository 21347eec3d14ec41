"""How keys and values are copied: many in one launch, and to host memory and back beside computing.

On CUDA what goes to pinned host memory and comes from there runs on a stream of its own, in the
order it is asked for; elsewhere at once.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
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


Copy = tuple[Tensor, Tensor]  # a target and what is copied there


class Copies:
    """What is copied together, to host memory by `transfer`, on a device in one launch.

    No target may be the source of another.
    """

    def __init__(self, transfer: Transfer | None = None) -> None:
        self._transfer = transfer
        self._copies: list[Copy] = []

    def add(self, target: Tensor, source: Tensor) -> None:
        self._copies.append((target, source))

    def run(self) -> None:
        if not self._copies:
            return
        if self._transfer is not None:
            self._transfer.send(self._copies)
        else:  # row by row: one launch needs each to lie dense
            targets, sources = (
                [row for tensor in tensors for row in tensor.unbind()]
                for tensors in zip(*self._copies, strict=True)
            )
            torch._foreach_copy_(targets, sources)


@dataclass(frozen=True, eq=False)
class Crossing:
    """Copies between device and host memory: the `tensors` on the device that they work on.

    Where they run beside computing, memory is that of the stream `home`, which must not use it or
    give it to others before they are `over`.
    """

    tensors: list[Tensor]
    home: torch.cuda.Stream | None = None
    over: torch.cuda.Event | None = None

    def wait(self) -> None:
        """Let the device wait; the caller does not."""
        if self.home is not None and self.over is not None:
            self.home.wait_event(self.over)


class Transfer:
    """A side stream of `device`, and the host memory that it copies to and from.

    What it reads and writes on the device belongs to the stream that computes, and is held until
    that has waited for the copy. So no more of it stands there than is asked for in two layers,
    however far the host runs ahead; torch's own `record_stream` would keep all that is queued.
    """

    def __init__(self, device: torch.device, ways: Ways = Ways()) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if ways.beside and has_streams(device) else None
        self._pinned: dict[int, int] = {}  # bytes by address
        self._can_pin = ways.pins
        self._sent: Crossing | None = None
        self._under_way: set[Crossing] = set()
        weakref.finalize(self, _end, self._under_way).atexit = False

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

    def settle(self) -> None:
        """Let the host wait until host memory has all that was sent."""
        if self._stream is not None:
            self._stream.synchronize()

    def send(self, copies: Sequence[Copy]) -> None:
        """Copy to host memory what there is once the work queued so far is done.

        Before that the device waits for what was sent last, which is let go of.
        """
        if self._stream is None:
            for target, source in copies:
                target.copy_(source)
            return
        if self._sent is not None:
            self.take(self._sent)
        self._sent = self._cross(copies, [source for _, source in copies])

    def fetch(self, sources: Sequence[Tensor]) -> Crossing:
        """Start copying host memory to the device, after everything sent before."""
        if self._stream is None:
            return Crossing([source.to(self._device) for source in sources])
        targets = [torch.empty_like(source, device=self._device) for source in sources]
        return self._cross(list(zip(targets, sources, strict=True)), targets)

    def take(self, crossing: Crossing) -> list[Tensor]:
        """What has crossed, for the stream that computes, which waits for it."""
        crossing.wait()
        self._under_way.discard(crossing)
        return crossing.tensors

    def _cross(self, copies: Sequence[Copy], on_device: list[Tensor]) -> Crossing:
        assert self._stream is not None, "without a stream nothing is copied beside"
        home, over = torch.cuda.current_stream(self._device), torch.cuda.Event()
        crossing = Crossing(on_device, home, over)
        self._under_way.add(crossing)
        self._stream.wait_stream(home)
        try:
            with torch.cuda.stream(self._stream):
                for target, source in copies:
                    target.copy_(source, non_blocking=True)
        finally:
            over.record(self._stream)
        return crossing


def _end(under_way: set[Crossing]) -> None:
    """Let go of what a run was copying when it ended, once the device has waited for it."""
    for crossing in under_way:
        crossing.wait()
    under_way.clear()


def _unpin(pinned: dict[int, int], address: int, stream: torch.cuda.Stream) -> None:
    stream.synchronize()
    torch.cuda.cudart().cudaHostUnregister(address)
    del pinned[address]
