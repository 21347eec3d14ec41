"""The host's dynamic VRAM on a simulated card: stands in for the driver behind comfy-aimdo.

What the host does with it is the host's own: its patcher, casts, pins and streams. A weight faults
in when a layer needs it, and beyond `resident_bytes` it is refused, so that it is streamed.
"""

import itertools

import comfy.memory_management
import comfy.model_patcher
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import comfy_aimdo.torch
import comfy_aimdo.vram_buffer
import torch

ADDRESSES = itertools.count(1 << 40, 1 << 20)  # in a space of their own, which no tensor has


def mapped(size: int, device: torch.device) -> torch.Tensor:
    """Memory that the driver gives, not torch's allocator: no stream has worked on it."""
    memory = torch.empty(size, dtype=torch.uint8, device=device)
    memory.block.begin()
    return memory


class WeightSpace:
    """Address space for the weights of a model, with pages that come when they are needed."""

    resident_bytes: float = float("inf")
    refused = 0

    def __init__(self, size: int, device: int) -> None:
        self._device = torch.device("cuda", device)
        self._pages: dict[int, torch.Tensor] = {}

    def prioritize(self, *_) -> None:
        pass

    def alloc(self, size: int) -> tuple:
        return self, next(ADDRESSES), size

    def fault(self, address: int, size: int) -> tuple | None:
        """What names the page while it is resident; None: there is no room."""
        if address not in self._pages:
            if self.loaded_size() + size > self.resident_bytes:
                WeightSpace.refused += 1
                return None
            self._pages[address] = mapped(size, self._device)
        return address, id(self._pages[address])

    def page(self, address: int, size: int) -> torch.Tensor:
        return self._pages[address]

    def loaded_size(self) -> int:
        return sum(page.nbytes for page in self._pages.values())

    def free_memory(self, size: float) -> int:
        before = self.loaded_size()
        while self._pages and before - self.loaded_size() < size:
            self._pages.popitem()
        return before - self.loaded_size()


class CastSpace:
    """A buffer on the card through which weights pass that are not resident."""

    def __init__(self, max_size: int, device: int) -> None:
        self._memory = mapped(0, torch.device("cuda", device))

    def size(self) -> int:
        return self._memory.nbytes

    def get(self, size: int, offset: int = 0) -> tuple:
        if self.size() < size + offset:
            self._memory = mapped(2 * (size + offset), self._memory.device)
        return self, offset, size

    def page(self, address: int, size: int) -> torch.Tensor:
        return self._memory[address : address + size]


class HostSpace:
    """Host memory that grows; the host pins it piece by piece."""

    def __init__(self, size: int, prewarm: int = 0, max_grow_size: int = 0, **_) -> None:
        self._memory = torch.empty(max(int(size), int(max_grow_size), 1), dtype=torch.uint8)
        self.size = int(size)

    def get_raw_address(self) -> int:
        return self._memory.data_ptr()

    def extend(self, size: int, reallocate: bool = False, register: bool = True) -> int:
        if self.size + size > self._memory.nbytes:
            raise RuntimeError("the host's buffer cannot grow further")
        self.size += int(size)
        return self.get_raw_address()

    def truncate(self, size: int, do_unregister: bool = True) -> None:
        self.size = int(size)


def use_dynamic_vram(monkeypatch, resident_bytes: float) -> None:
    """Models loaded from here on are dynamic, with at most so many bytes of weights resident."""
    vbar = comfy_aimdo.model_vbar
    WeightSpace.refused = 0
    replaced = [
        (WeightSpace, "resident_bytes", resident_bytes),
        (vbar, "ModelVBAR", WeightSpace),
        (vbar, "vbar_fault", lambda alloc: alloc[0].fault(*alloc[1:])),
        (vbar, "vbar_unpin", lambda alloc: None),
        (vbar, "vbar_signature_compare", lambda a, b: a is not None and a == b),
        (vbar, "vbars_analyze", lambda device=None: 0),
        (comfy_aimdo.host_buffer, "HostBuffer", HostSpace),
        (comfy_aimdo.vram_buffer, "VRAMBuffer", CastSpace),
        (comfy_aimdo.torch, "aimdo_to_tensor", lambda alloc, device: alloc[0].page(*alloc[1:])),
        (comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic),
        (comfy.memory_management, "aimdo_enabled", True),
    ]
    for owner, name, value in replaced:
        monkeypatch.setattr(owner, name, value)
