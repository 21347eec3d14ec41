"""Where a chunk's time goes: in self-attention, in its kernel, and elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

import common
import torch
from comfy.ldm.wan import ar_model
from common import elapsed, moment

from relax_memory.host.model import attention as memory_attention


class Watch(common.ChunkClock):
    """Also sums the time in self-attention modules and in the kernels that they call."""

    def __init__(self) -> None:
        super().__init__()
        self._spans = {"self_attention": [], "kernel": []}
        self._inside = False

    @contextlib.contextmanager
    def modules(self, modules: list[torch.nn.Module]) -> Iterator[None]:
        """Time these self-attention modules, whatever their `forward` is."""
        starts: list = []

        def begin(*_):
            self._inside = True
            starts.append(moment())

        def end(*_):
            self._inside = False
            self._spans["self_attention"].append((self.chunks, starts.pop(), moment()))

        with contextlib.ExitStack() as hooks:
            for module in modules:
                hooks.callback(module.register_forward_pre_hook(begin).remove)
                hooks.callback(module.register_forward_hook(end).remove)
            yield

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        """Time what the modules call, and leave cross-attention alone."""
        original = common.optimized_attention

        def timed(*args, **kwargs):
            if not self._inside:
                return original(*args, **kwargs)
            return self._time("kernel", original, args, kwargs)

        callers = (memory_attention, ar_model)
        try:
            for caller in callers:
                caller.optimized_attention = timed
            yield
        finally:
            for caller in callers:
                caller.optimized_attention = original

    def seconds_of(self, name: str) -> list[float]:
        """Seconds of each chunk that were spent in `name`."""
        common.synchronize()
        sums = [0.0] * self.chunks
        for chunk, start, end in self._spans[name]:
            if chunk < self.chunks:  # what follows the last step of all belongs to no chunk
                sums[chunk] += elapsed(start, end)
        return sums

    def _time(self, name: str, function: Callable, args: tuple, kwargs: dict):
        start = moment()
        out = function(*args, **kwargs)
        self._spans[name].append((self.chunks, start, moment()))
        return out
