"""The state of one sampling run: which pass is in work, and the memory of each stream and scene.

Made by the sampler, passed to attention in `transformer_options`, gone when the run ends, or handed
to the run that goes on under other words. A stream is one entry of one conditioning, named by the
run; the host's ids only say which rows are whose.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from comfy.ldm.wan.model import WanModel

from ...memory.buffer import KeyValueBuffer
from ...memory.recall import Memory, Moments
from ...memory.storage import Held, Storage
from ...memory.transfer import Transfer
from ...passes import Chunk, Pass
from ...storyboard import Storyboard
from ...trace import ChunkTrace
from ..gates.unused import never_called, unused_patches
from ..gates.words import say
from ..model.positions import TimeRope
from ..room.copying import ways_to
from .ledger import Ledger, Stream

OTHER = "other"  # conditionings of other nodes
FIRST = ("positive", "negative")  # in a trace, whatever the host evaluates first


class NoMemoryYet(Exception):
    """A stream takes part for the first time, after chunks that it has not remembered, or without
    the `moment` of the film that the chunk reads.
    """

    def __init__(self, stream: Stream, moment: int | None = None) -> None:
        super().__init__(f"The {stream} conditioning remembers nothing yet.")
        self.stream = stream
        self.moment = moment


class Session:
    """Memories by stream and scene, and the pass for which the model is called.

    `remembered` counts the chunks of each scene; `evaluated` has, by stream, its place and its
    entry in the host's calls. Patches that are known to be `unused` are not told of again.
    """

    def __init__(
        self,
        storyboard: Storyboard,
        storage: Storage,
        device: torch.device,
        *,
        unused: Iterable[str] = (),
    ) -> None:
        self.storyboard = storyboard
        self.storage = storage
        self.memories: dict[tuple[Stream, int], Memory] = {}
        self.remembered: dict[int, int] = {}
        self.evaluated: dict[Stream, tuple[int, dict]] = {}
        self._moments: dict[Stream, Moments] = {}
        self._others: dict[object, Stream] = {}
        self._ropes: dict[tuple[int, ...], TimeRope] = {}
        self._unused = set(unused)
        self._parked: dict[int, dict[tuple[Stream, int], Memory]] = {}
        self._device = device
        self._transfer = Transfer(device, ways_to(device)) if storage.device == "cpu" else None

    def start(self, ledger: Ledger, waiting: frozenset[int]) -> None:
        """Begin a run; scenes that are `waiting` are parked in host memory while they are away."""
        self.ledger = ledger
        self.waiting = waiting

    def follow(self, storyboard: Storyboard) -> None:
        """Go on with another film in a new run. Both are the same as far as they are remembered.

        A scene of which it needs more than is stored is let go of, to be remembered again; so are
        the streams of other nodes, which may get other ids.
        """
        self.storyboard = storyboard
        self._others.clear()
        for known in (self.evaluated, self._moments):
            for stream in [stream for stream in known if stream.conditioning == OTHER]:
                del known[stream]
        for moments in self._moments.values():  # which memories hold
            for frame in moments.keys() - storyboard.moments:
                del moments[frame]
            moments.update({frame: {} for frame in storyboard.moments - moments.keys()})
        plans = dict(enumerate(storyboard.plans))
        lost = set()
        for held in (self.memories, *self._parked.values()):
            for (stream, scene), memory in list(held.items()):
                if stream.conditioning == OTHER:
                    del held[stream, scene]
                elif scene not in plans or not memory.follow(plans[scene]):
                    lost.add(scene)
        for scene in lost:
            self._parked.pop(scene, None)
            self.forget(scene)

    def begin(self, pass_: Pass) -> None:
        """Say what the next model calls are for; one in a chunk is remembered."""
        self.pass_ = pass_
        self.ledger.open(pass_)

    def hear(self, transformer_options: dict) -> None:
        """Say once what other nodes put into a single call for nothing."""
        if not transformer_options.keys() & {"patches", "patches_replace"}:
            return
        new = unused_patches(transformer_options) - self._unused
        if new:
            self._unused |= new
            say(never_called(new))

    def name(self, entry_id: object) -> Stream:
        """The stream of an entry by the id that the host passes on.

        Entries of the guider carry their stream as id. Another node's own prompt is "other".
        """
        if isinstance(entry_id, Stream):
            return entry_id
        return self._others.setdefault(entry_id, Stream(OTHER, len(self._others)))

    def streams(self, transformer_options: dict) -> list[Stream]:
        """The streams of this call, of as many rows each."""
        return [self.name(id_) for id_ in transformer_options.get("uuids") or [None]]

    @property
    def known(self) -> set[Stream]:
        """Streams that have a memory of the scene in work."""
        return self.known_in(self.pass_.chunk.scene)

    def known_in(self, scene: int) -> set[Stream]:
        """Streams that have a memory of a scene."""
        return {stream for stream, own in self.memories if own == scene}

    @property
    def met(self) -> tuple[Stream, ...]:
        """Streams that have taken part, in whichever scene."""
        return tuple(self._moments)

    def missing(self, stream: Stream) -> NoMemoryYet | None:
        """What a stream has yet to remember before it can take part in the pass, if anything."""
        chunk = self.pass_.chunk
        moments = self._moments.get(stream, {})
        for frame in chunk.roles.pinned:
            if not moments.get(frame):
                return NoMemoryYet(stream, frame)
        if chunk.index and (stream, chunk.scene) not in self.memories:
            return NoMemoryYet(stream)
        return None

    def memories_of(
        self, streams: list[Stream], *, rows: int, model: WanModel, transformer_options: dict
    ) -> list[Memory]:
        """The memories of streams, made when these first take part; all of one call in one buffer.

        Args:
            rows: of each stream.

        Raises:
            NoMemoryYet: chunks were remembered before a stream took part, or a moment is to be read
                that it has not remembered.
        """
        for stream in streams:
            if missing := self.missing(stream):
                raise missing
        chunk = self.pass_.chunk
        new = dict.fromkeys(s for s in streams if (s, chunk.scene) not in self.memories)
        if new:
            plan = self.storyboard.plans[chunk.scene]
            buffer = KeyValueBuffer(
                layers=len(model.blocks),
                rows=rows * len(new),
                frames=plan.buffer_frames,
                rotate=self._rope(model, transformer_options).rotate,
            )
            for index, stream in enumerate(new):
                self.memories[stream, chunk.scene] = Memory(
                    plan,
                    buffer,
                    rows=slice(index * rows, (index + 1) * rows),
                    dtype=self.storage.dtype,
                    transfer=self._transfer,
                    moments=self.moments(stream),
                )
        return [self.memories[stream, chunk.scene] for stream in streams]

    def _rope(self, model: WanModel, transformer_options: dict) -> TimeRope:
        """What rotates frames of this size, so that all scenes have its angles once."""
        _, *size = transformer_options["grid_sizes"]
        return self._ropes.setdefault(tuple(size), TimeRope(model, transformer_options))

    def moments(self, stream: Stream) -> Moments:
        """Moments of the film as a stream remembers them; empty ones are yet to come."""
        if stream not in self._moments:
            self._moments[stream] = {frame: {} for frame in self.storyboard.moments}
        return self._moments[stream]

    def forget(self, scene: int) -> None:
        """Let go of what a scene remembers."""
        self.memories = self._without(scene)
        self.remembered.pop(scene, None)

    def park(self, scene: int) -> None:
        """Let what a scene remembers wait in host memory."""
        self._parked[scene] = {key: m for key, m in self.memories.items() if key[1] == scene}
        for memory in self._parked[scene].values():
            memory.move(torch.device("cpu"))
        self.memories = self._without(scene)

    def unpark(self, scene: int) -> None:
        """Take back what a scene remembers, if it waits."""
        back = self._parked.pop(scene, {})
        for memory in back.values():
            memory.move(self._device)
        self.memories |= back

    @contextmanager
    def aside(self, scene: int) -> Iterator[None]:
        """Put aside what a scene remembers, as if it were to begin, and take it back at the end."""
        kept = self.memories, dict(self.remembered)
        self.forget(scene)
        try:
            yield
        finally:
            self.memories, self.remembered = kept

    def _without(self, scene: int) -> dict[tuple[Stream, int], Memory]:
        return {key: memory for key, memory in self.memories.items() if key[1] != scene}

    def trace(self, chunk: Chunk, seconds: float, words: str) -> ChunkTrace:
        """What the rows read in `chunk`, the one remembered last or next, in frames of the film.

        `words` are the first of its shot.
        """
        chosen = [memory.selection_of(chunk) for _, memory in self._ordered(chunk.scene)]

        def film(frames: tuple[int, ...]) -> tuple[int, ...]:
            return self.storyboard.film_frames(chunk.scene, frames)

        return ChunkTrace(
            index=chunk.film_index,
            frames=film(chunk.frames),
            given=chunk.given,
            sink=film(chunk.roles.sink),
            candidates=film(chunk.roles.candidates),
            tail=film(chunk.roles.tail),
            history=tuple(film(row) for selection in chosen for row in selection.history),
            scores=tuple(row for selection in chosen for row in selection.scores),
            seconds=seconds,
            scene=chunk.scene,
            scene_frame=chunk.first_frame if chunk.frames_elsewhere else None,
            pinned=chunk.roles.pinned,
            words=words,
        )

    def rows(self, scene: int) -> tuple[str, ...]:
        """A label for each row of the trace."""
        return tuple(
            f"{stream} {sample}"
            for stream, memory in self._ordered(scene)
            for sample in range(len(memory.selection.history))
        )

    def _ordered(self, scene: int) -> list[tuple[Stream, Memory]]:
        return sorted(
            ((stream, memory) for (stream, own), memory in self.memories.items() if own == scene),
            key=lambda item: (
                FIRST.index(item[0].conditioning) if item[0][0] in FIRST else len(FIRST)
            ),
        )

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held by all streams."""
        return sum(memory.bytes for memory in self.memories.values())

    @property
    def held(self) -> Held:
        """Bytes by where they are, with those of moments and of scenes that wait."""
        costs = [memory.costs for memory in self.memories.values()]
        banks = sum(cost.bank_bytes for cost in costs)
        buffers = sum(cost.buffer_bytes for cost in costs)
        parked = sum(m.bytes for waits in self._parked.values() for m in waits.values())
        pairs = [
            p for m in self._moments.values() for layers in m.values() for p in layers.values()
        ]
        moments = sum(tensor.nbytes for pair in pairs for tensor in pair)
        in_host = self.storage.device == "cpu"
        return Held(
            device_bytes=buffers + moments + (0 if in_host else banks),
            host_bytes=parked + (banks if in_host else 0),
        )
