"""Copies between the compute device and pinned host memory, beside computing.

On CUDA they run on their own stream, in the order they are asked for; elsewhere at once.
"""

import torch
from torch import Tensor


class Lane:
    """One side stream of `device`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Host memory that the lane can copy to and from, pinned where that exists."""
        return torch.empty(shape, dtype=dtype, pin_memory=self._stream is not None)

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
