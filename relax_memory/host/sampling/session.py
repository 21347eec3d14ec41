"""The state of one sampling run: which chunk is in work, and the memory of each conditioning.

Made by the sampler, passed to attention in `transformer_options`, gone when the run ends.
"""

import torch
from comfy.ldm.flux.math import apply_rope1
from torch import Tensor

from ...memory.recall import Memory
from ...memory.storage import Storage
from ...memory.transfer import Transfer
from ...plan import Chunk, Plan
from ...trace import ChunkTrace

SESSION = "relax_forcing_session"
CONDITIONINGS = {0: "positive", 1: "negative"}


class Session:
    """Memories of one run by the host's conditioning id; rows of a call are grouped by that id."""

    def __init__(self, plan: Plan, storage: Storage, device: torch.device) -> None:
        self.plan = plan
        self.storage = storage
        self.memories: dict[object, Memory] = {}
        self._kinds: dict[object, int] = {}
        self.chunk: Chunk = plan.chunk(0)
        self.clean = False
        self._transfer = Transfer(device) if storage.device == "cpu" else None

    def begin(self, chunk: Chunk, *, clean: bool) -> None:
        """Say what the next model calls are for; only a clean pass is remembered."""
        self.chunk, self.clean = chunk, clean

    def streams(self, rows: int, transformer_options: dict) -> list[tuple[object, slice]]:
        """The conditionings of this call and their rows."""
        ids = transformer_options.get("uuids") or [None]
        kinds = transformer_options.get("cond_or_uncond") or [0]
        size = rows // len(ids)
        for index, kind in zip(ids, kinds, strict=True):
            self._kinds.setdefault(index, kind)
        return [(index, slice(i * size, (i + 1) * size)) for i, index in enumerate(ids)]

    def memory(
        self, stream: object, *, rows: int, model: torch.nn.Module, transformer_options: dict
    ) -> Memory:
        """The memory of a conditioning, made when it first takes part."""
        if stream not in self.memories:
            self.memories[stream] = Memory(
                self.plan,
                layers=len(model.blocks),
                rows=rows,
                rotate=TimeRope(model, transformer_options).rotate,
                dtype=self.storage.dtype,
                transfer=self._transfer,
            )
        return self.memories[stream]

    def trace(self, chunk: Chunk, seconds: float) -> ChunkTrace:
        """What the rows read in `chunk`, before the chunk is remembered."""
        chosen = [memory.selection for _, memory in self._ordered()]
        return ChunkTrace(
            index=chunk.index,
            frames=chunk.frames,
            given=chunk.given,
            sink=chunk.roles.sink,
            candidates=chunk.roles.candidates,
            tail=chunk.roles.tail,
            history=tuple(row for selection in chosen for row in selection.history),
            scores=tuple(row for selection in chosen for row in selection.scores),
            seconds=seconds,
        )

    def _ordered(self) -> list[tuple[object, Memory]]:
        """Memories with the positive conditioning first, whatever the host evaluates first."""
        return sorted(self.memories.items(), key=lambda item: self._kinds[item[0]])

    @property
    def rows(self) -> tuple[str, ...]:
        """A label for each row of the trace."""
        return tuple(
            f"{CONDITIONINGS.get(self._kinds[stream], 'other')} {sample}"
            for stream, memory in self._ordered()
            for sample in range(len(memory.selection.history))
        )

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held by all conditionings."""
        return sum(memory.bytes for memory in self.memories.values())


class TimeRope:
    """Rotates one frame's keys to a time with the model's own `rope_encode`.

    Angles are made in float32 whatever the model's precision, so that distant times stay exact.
    """

    def __init__(self, model: torch.nn.Module, transformer_options: dict) -> None:
        _, rows, columns = transformer_options["grid_sizes"]
        _, patch_rows, patch_columns = model.patch_size
        self._model = model
        self._size = (rows * patch_rows, columns * patch_columns)
        self._options = {"rope_options": transformer_options.get("rope_options")}
        self._scale = (self._options["rope_options"] or {}).get("scale_t", 1.0)
        self._angles: dict[int, Tensor] = {}

    def rotate(self, keys: Tensor, time: int) -> Tensor:
        """Keys of one frame `[B, tokens, heads, head_dim]`, rotated to `time`."""
        if time not in self._angles:
            if len(self._angles) > 64:
                self._angles.clear()
            self._angles[time] = self._model.rope_encode(
                1,
                *self._size,
                t_start=time * self._scale,
                device=keys.device,
                dtype=torch.float32,
                transformer_options=self._options,
            )
        return apply_rope1(keys, self._angles[time])
