"""Cards with memory of a size, and pinned memory of the host."""

import types
import weakref

import torch
from device.clocks import HOST, Clock, Region, Stream

CONTEXT_BYTES = 400 << 20  # what CUDA itself takes of a card
CARDS: list["Card"] = []


class Card:
    """One card: its streams, and the bytes alive on it.

    `fails_at` counts down with every allocation; the one at 0 finds no memory.
    """

    def __init__(self, index: int, total_bytes: int) -> None:
        self.device = torch.device("cuda", index)
        self.total_bytes = total_bytes
        self.used_bytes = self.peak_bytes = self.allocations = 0
        self.fails_at: int | None = None
        self.default = self.stream = Stream(self.device)

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - CONTEXT_BYTES - self.used_bytes

    def forget_peak(self) -> None:
        self.peak_bytes = self.used_bytes

    def allocate(self, size: int) -> None:
        self.allocations += 1
        if self.fails_at is not None:
            self.fails_at -= 1
        if size > self.free_bytes or self.fails_at == -1:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size} bytes, {self.free_bytes} are free."
            )
        self.used_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)


class Block(Region):
    """An allocation, which ends with the last tensor that lies in it.

    As in torch, the stream that was current when it was made may have it again at once; another
    one's work must be over by then for that stream, or be told by `record_stream`. And another one
    must wait for what that stream was at when it was made: the memory may have been used for that.
    """

    def __init__(self, card: Card, size: int) -> None:
        self._card = None
        super().__init__(f"{size} bytes on {card.device}")
        card.allocate(size)
        self._card, self.size, self._home = card, size, card.stream
        self.inherit(self._home, size)
        self.recorded: set[Stream] = set()

    def __del__(self) -> None:
        if self._card is not None:
            self._card.used_bytes -= self.size
            known = Clock(self._home.clock)
            known.join(HOST)
            self.let_go(known, "given back", {self._home, *self.recorded})


class Runtime:
    """Stands in for torch.cuda.cudart(): pinned memory by address, and error numbers."""

    cudaError = types.SimpleNamespace(success=0)

    def __init__(self) -> None:
        self.pinned: dict[int, tuple[int, Region]] = {}
        self.limit_bytes: float = float("inf")

    @property
    def pinned_bytes(self) -> int:
        return sum(size for size, _ in self.pinned.values())

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        if any(a < address + size and address < a + s for a, (s, _) in self.pinned.items()):
            return 712
        if self.pinned_bytes + size > self.limit_bytes:
            return 2
        self.pinned[address] = size, Region(f"{size} bytes of pinned memory")
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        if address not in self.pinned:
            return 713
        _, region = self.pinned.pop(address)
        region.let_go(HOST, "unregistered", set())
        return 0

    def cudaMemGetInfo(self, device: int = 0) -> tuple[int, int]:
        return CARDS[device].free_bytes, CARDS[device].total_bytes

    def pinned_copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor.pin_memory()`, whose memory torch keeps until copies from it are over."""
        if self.pinned_bytes + tensor.nbytes > self.limit_bytes:
            raise RuntimeError("CUDA error: out of memory")
        return self.landing(tensor)

    def landing(self, tensor: torch.Tensor) -> torch.Tensor:
        """What torch makes for a copy to the host that does not wait, from its own small store."""
        copy = tensor.clone(memory_format=torch.contiguous_format)
        address, size = copy.data_ptr(), copy.nbytes
        self.pinned[address] = size, Region(f"{size} bytes of pinned memory, by torch")
        weakref.finalize(copy, self.pinned.pop, address)
        return copy

    def find(self, tensor: torch.Tensor) -> tuple[Region, int] | None:
        """The pinned memory that a CPU tensor lies in, and the tensor's first byte there."""
        if self.pinned and tensor.device.type == "cpu" and tensor.numel():
            address = tensor.data_ptr()
            for start, (size, region) in self.pinned.items():
                if start <= address < start + size:
                    return region, address - start
        return None


RUNTIME = Runtime()
