"""The state of one sampling run: which pass is in work, and the memory of each stream.

Made by the sampler, passed to attention in `transformer_options`, gone when the run ends. A stream
is one entry of one conditioning, named by the run; the host's ids only say which rows are whose.
"""

import torch
from comfy.ldm.wan.model import WanModel

from ...memory.recall import Memory
from ...memory.storage import Storage
from ...memory.transfer import Transfer
from ...passes import Chunk, Pass
from ...plan import Plan
from ...trace import ChunkTrace
from ..model.positions import TimeRope
from .ledger import Ledger, Stream

FIRST = ("positive", "negative")  # in a trace, whatever the host evaluates first


class NoMemoryYet(Exception):
    """A stream takes part for the first time, after chunks that it has not remembered."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(f"The {stream} conditioning remembers nothing yet.")
        self.stream = stream


class Session:
    """Memories of one run by stream and scene, and the pass for which the model is called."""

    def __init__(self, plan: Plan, storage: Storage, device: torch.device, ledger: Ledger) -> None:
        self.plan = plan
        self.storage = storage
        self.ledger = ledger
        self.memories: dict[tuple[Stream, int], Memory] = {}
        self._others: dict[object, Stream] = {}
        self._transfer = Transfer(device) if storage.device == "cpu" else None

    def begin(self, pass_: Pass) -> None:
        """Say what the next model calls are for; one in a chunk is remembered."""
        self.pass_ = pass_
        self.ledger.open(pass_)

    def name(self, entry_id: object) -> Stream:
        """The stream of an entry by the id that the host passes on.

        Entries of the guider carry their stream as id. Another node's own prompt is "other".
        """
        if isinstance(entry_id, Stream):
            return entry_id
        return self._others.setdefault(entry_id, Stream("other", len(self._others)))

    def streams(self, rows: int, transformer_options: dict) -> list[tuple[Stream, slice]]:
        """The streams of this call and their rows."""
        ids = transformer_options.get("uuids") or [None]
        size = rows // len(ids)
        return [(self.name(id_), slice(i * size, (i + 1) * size)) for i, id_ in enumerate(ids)]

    @property
    def known(self) -> set[Stream]:
        """Streams that have a memory of the scene in work."""
        return {stream for stream, scene in self.memories if scene == self.pass_.chunk.scene}

    def memory(
        self, stream: Stream, *, rows: int, model: WanModel, transformer_options: dict
    ) -> Memory:
        """The memory of a stream, made when it first takes part.

        Raises:
            NoMemoryYet: chunks were remembered before this stream took part.
        """
        key = stream, self.pass_.chunk.scene
        if key not in self.memories:
            if self.pass_.chunk.index:
                raise NoMemoryYet(stream)
            self.memories[key] = Memory(
                self.plan,
                layers=len(model.blocks),
                rows=rows,
                rotate=TimeRope(model, transformer_options).rotate,
                dtype=self.storage.dtype,
                transfer=self._transfer,
            )
        return self.memories[key]

    def trace(self, chunk: Chunk, seconds: float) -> ChunkTrace:
        """What the rows read in `chunk`, the one that is remembered last or next."""
        chosen = [memory.selection_of(chunk) for _, memory in self._ordered()]
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

    @property
    def rows(self) -> tuple[str, ...]:
        """A label for each row of the trace."""
        return tuple(
            f"{stream} {sample}"
            for stream, memory in self._ordered()
            for sample in range(len(memory.selection.history))
        )

    def _ordered(self) -> list[tuple[Stream, Memory]]:
        return sorted(
            ((stream, memory) for (stream, _), memory in self.memories.items()),
            key=lambda item: (
                FIRST.index(item[0].conditioning) if item[0][0] in FIRST else len(FIRST)
            ),
        )

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held by all streams."""
        return sum(memory.bytes for memory in self.memories.values())
