"""What one conditioning remembers, and what the running chunk reads of it.

Ties plan, scoring, positions and bank together for one stream of rows (one conditioning, all its
samples). The memory of the next chunk is chosen after layer 0 of a pass that is remembered and put,
rotated, where attention will read it, layer by layer in the same pass; so a chunk finds its memory
ready in one contiguous buffer per layer, and what is already in place stays (rotated sinks, say).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ..passes import Chunk, Pass
from ..plan import Plan
from ..roles import ROLES, Role, Roles
from ..scoring import choose_history, frame_means
from .arrangement import (
    Arrangement,
    FrameRows,
    Move,
    Pinned,
    Place,
    Scores,
    Selection,
)
from .bank import Bank, Pair
from .buffer import KeyValueBuffer, Placed, Span
from .costs import Costs
from .transfer import Copies, Transfer

Moments = dict[int, dict[int, Pair]]  # film frame: layer: its un-rotated keys and its values


class Memory:
    """The memory of one stream in one scene.

    Args:
        plan: the scene's plan.
        buffer: where it is read, perhaps beside others.
        rows: of the buffer, one for each sample of the stream.
        dtype: precision of stored history candidates, see `storage`.
        transfer: stores in host memory through this; None: on the device of the model.
        moments: of this stream, in all scenes; those that are asked for are filled in as they are
            remembered.
    """

    def __init__(
        self,
        plan: Plan,
        buffer: KeyValueBuffer,
        *,
        rows: slice,
        dtype: str = "model",
        transfer: Transfer | None = None,
        moments: Moments | None = None,
    ) -> None:
        def bank(dtype: str, frames: int) -> Bank:
            return Bank(
                layers=buffer.layers, capacity_frames=frames, dtype=dtype, transfer=transfer
            )

        self._plan = plan
        self._transfer = transfer
        self.buffer = buffer
        self.rows = rows
        self._in_one = dtype == "model"  # a frame stays where it is when it becomes a candidate
        dtypes = (dtype,) if self._in_one else ("model", dtype)
        self._banks = tuple(map(bank, dtypes, self._stored_frames(plan)))
        self._certain, self._history = self._banks[0], self._banks[-1]
        self._moments = {} if moments is None else moments
        self._means: dict[int, Tensor] = {}
        self._demoted: list[int] = []
        self._ready = [0] * buffer.layers
        self._placed: dict[tuple[int, int], tuple[int | Pinned, int]] = {}
        self._next = self._turn_to(plan.chunk(0))
        self._before = self.selection
        self._waiting = dict.fromkeys(range(buffer.layers), self._next) if self._next.moves else {}

    def _stored_frames(self, plan: Plan) -> tuple[int, ...]:
        """The most frames that each bank holds by a plan."""
        peaks = tuple(
            plan.peak_frames(ahead_chunks=2, certain=certain) for certain in (True, False)
        )
        return (sum(peaks),) if self._in_one else peaks

    @property
    def costs(self) -> Costs:
        """Bytes of keys and values held, stored and ready to read."""
        return Costs(
            bank_bytes=sum(bank.bytes for bank in self._banks),
            buffer_bytes=self.buffer.bytes_of(self.rows),
        )

    @property
    def bytes(self) -> int:
        return self.costs.bytes

    def follow(self, plan: Plan) -> bool:
        """Go on by another plan, if all that it keeps is stored.

        Where the chunk that is next reads otherwise by it, that is put in place once more; not from
        fp8, which would round what was put there as it was.
        """
        chunk = self.selection.chunk
        if max(self._ready) != chunk.index or not plan.has_chunk(chunk.index):
            return False
        following = plan.chunk(chunk.index)
        homes = self._homes(range(chunk.first_frame), plan, chunk.index)
        stored = all(
            {frame for frame, home in homes.items() if home is bank} <= set(bank.frames)
            for bank in self._banks
        )
        as_it_was = self._in_one and set(following.roles.readable) <= set(self.frames)
        if not stored or not (following == chunk or as_it_was):
            return False
        self._plan = plan
        for bank, frames in zip(self._banks, self._stored_frames(plan), strict=True):
            bank.grow(frames)
        self.buffer.resize(plan.buffer_frames)
        if following != chunk:
            self.rewind(following)
        return True

    def move(self, device: torch.device) -> None:
        """Go to a device with all keys and values. It is read and written only on the model's."""
        for bank in self._banks:
            bank.move(device)
        self.buffer.move(device)

    def selection_of(self, chunk: Chunk) -> Selection:
        """What is read in `chunk`, the one that is remembered next or was last."""
        return self.selection if self.selection.chunk.index == chunk.index else self._before

    def stands_before(self, other: Memory) -> bool:
        """Whether the other's rows are the next ones in the same buffer."""
        return self.buffer is other.buffer and self.rows.stop == other.rows.start

    def read(
        self, pass_: Pass, layer: int, keys: Tensor, values: Tensor, *others: Memory
    ) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of what the pass reads and of the chunk itself, until `commit`.

        Args:
            keys, values: of the running chunk `[B, L, heads, head_dim]`, keys rotated.
            others: memories whose rows follow, each standing before the next.

        Raises:
            RuntimeError: this layer has not remembered the chunk before, or has remembered this one
                already.
        """
        chunk = pass_.chunk
        waiting: list[tuple[Memory, Arrangement, dict[int, Pair]]] = []
        for memory in (self, *others):
            memory._check_ready(chunk, layer)
            if layer in memory._waiting:
                waiting.append((memory, memory._waiting.pop(layer), {}))
        if waiting:
            self.buffer.reserve(layer, chunk.length_frames, keys)
            self._place(layer, waiting)
        past = _spans(chunk.roles, self._plan.policy.reads(pass_, layer))
        rows = slice(self.rows.start, (self, *others)[-1].rows.stop)
        return self.buffer.append(layer, chunk.length_frames, keys, values, past, rows=rows)

    def commit(
        self, chunk: Chunk, layer: int, keys: Tensor, values: Tensor, *others: Memory
    ) -> None:
        """Remember a chunk in one layer and prepare what the next chunk reads there.

        Call it layer by layer, after that layer's attention.

        Args:
            keys, values: `[B, L, heads, head_dim]`, keys un-rotated.
            others: memories whose rows follow, as for `read`.

        Raises:
            RuntimeError: layer 0, which chooses what the next chunk reads, was left out.
        """
        together = (self, *others)
        parts = list(zip(keys.chunk(len(together)), values.chunk(len(together)), strict=True))
        for memory in together:
            if layer > 0 and memory._ready[0] <= chunk.index:
                raise RuntimeError(
                    f"Layer 0 is left out while chunk {chunk.index} is being remembered, but it "
                    "chooses the history: remove layer 0 from the node that skips layers."
                )
        if layer == 0:
            _turn_to_next(together, chunk, [keys for keys, _ in parts])
        fresh = [
            memory._fresh(chunk, layer, *part) for memory, part in zip(together, parts, strict=True)
        ]
        # Load first, store last: a frame that moves may lie in the slot that a new one takes, and
        # what is read next must not queue behind what is stored now.
        coming = [(m, m._at_hand(layer), pairs) for m, pairs in zip(together, fresh, strict=True)]
        loaded = self._place(layer, coming)
        copies = Copies(self._transfer)
        for memory, pairs, stored in zip(together, fresh, loaded, strict=True):
            memory._store(layer, pairs, stored, copies)
            memory._ready[layer] = chunk.index + 1
        copies.run()

    def _check_ready(self, chunk: Chunk, layer: int) -> None:
        if self._ready[layer] != chunk.index:
            raise RuntimeError(
                f"Layer {layer} reads memory for chunk {chunk.index}, but what it remembers ends "
                f"with chunk {self._ready[layer] - 1}."
            )

    def _fresh(self, chunk: Chunk, layer: int, keys: Tensor, values: Tensor) -> dict[int, Pair]:
        """The frames of a chunk; those that are moments are kept as they were first."""
        frames = chunk.length_frames
        parts = zip(keys.chunk(frames, dim=1), values.chunk(frames, dim=1), strict=True)
        fresh = dict(zip(chunk.frames, parts, strict=True))
        for frame, (key, value) in fresh.items():
            moment = self._moments.get(frame + chunk.frames_elsewhere)
            if moment is not None and layer not in moment:
                moment[layer] = key.clone(), value.clone()
        return fresh

    def _store(
        self,
        layer: int,
        fresh: dict[int, Pair],
        stored: dict[FrameRows, Pair],
        copies: Copies,
    ) -> None:
        """Store what comes to stay, and in fp8 what has been loaded to become a candidate."""
        demoted = {frame: stored[FrameRows(frame)] for frame in self._demoted}
        self._history.store(layer, demoted, copies)
        for bank in self._banks:
            kept = {f: pair for f, pair in fresh.items() if bank.slot(f) is not None}
            bank.store(layer, kept, copies)

    def rewind(self, chunk: Chunk) -> None:
        """Go back to before a chunk that is to be remembered once more, under other words.

        What it reads must have lingered. Layer 0 does not know the words, so its choices stay.
        """
        self._placed.clear()  # frames of the chunk that stand there are made anew
        self._next = self._turn_to(chunk)
        self._waiting = dict.fromkeys(range(self.buffer.layers), self._next)
        self._ready = [chunk.index] * self.buffer.layers

    @property
    def frames(self) -> tuple[int, ...]:
        """Frames in storage, oldest first."""
        return tuple(sorted(frame for bank in self._banks for frame in bank.frames))

    def _meet(self, chunk: Chunk, keys: Tensor) -> Tensor | None:
        """Note how a chunk looks in layer 0; returns the scores for the next, if it has any."""
        if not self._plan.has_chunk(chunk.index + 1):  # remembered for a moment of it
            return None
        means = frame_means(keys, chunk.length_frames)
        self._means.update(zip(chunk.frames, means.unbind(1), strict=True))
        return self._scores(self._plan.chunk(chunk.index + 1).roles)

    def _turn_to_next(self, chunk: Chunk, scores: Scores | None) -> None:
        """Choose for the next chunk, note what must move, and forget what nothing will read."""
        if not self._plan.has_chunk(chunk.index + 1):
            self._next, self._demoted = Arrangement([], {}), []
            return
        following = self._plan.chunk(chunk.index + 1)
        self._before = self.selection
        self._next = self._turn_to(following, fresh=chunk.frames, scores=scores)
        home = self._homes(self._means, self._plan, following.index)
        self._demoted = [
            f for f in self._certain.frames if home.get(f) not in (None, self._certain)
        ]
        self._next.places.update(self._places(map(FrameRows, self._demoted)))
        for bank in self._banks:
            bank.keep(f for f in home if home[f] is bank)
        self._means = {f: self._means[f] for f in home}

    def _homes(self, frames: Iterable[int], plan: Plan, chunk: int) -> dict[int, Bank]:
        """Where those are stored that a plan keeps once this chunk has found its memory."""
        return {
            frame: self._certain if plan.is_certain_after(frame, chunk) else self._history
            for frame in frames
            if plan.stays_after(frame, chunk)
        }

    def _turn_to(
        self,
        chunk: Chunk,
        *,
        fresh: tuple[int, ...] = (),
        scores: Scores | None = None,
    ) -> Arrangement:
        """Choose what a chunk reads, and find what must move for it.

        Frames that are `fresh` are stored as they were remembered before, if at all. Scores that
        are not given are computed.
        """
        self.selection = self._choose(chunk, scores)
        moves = self._arrange()
        return Arrangement(moves, self._places(m.what for m in moves if m.what.frame not in fresh))

    def _places(self, wanted: Iterable[FrameRows]) -> dict[FrameRows, Place]:
        """Where they are stored, those that are."""
        places = {}
        for what in wanted:
            for bank in self._banks:
                frame = what.frame
                slot = None if isinstance(frame, Pinned) else bank.slot(frame)
                if slot is not None:
                    places[what] = Place(bank, slot)
        return places

    def _scores(self, roles: Roles) -> Tensor | None:
        """Of each row `[rows, candidates]`, where there is a choice."""
        if not roles.has_choice:
            return None
        parts = (roles.candidates, roles.sink, roles.tail)
        return self._plan.policy.scores(*map(self._stack, parts))

    def _choose(self, chunk: Chunk, scores: Scores | None) -> Selection:
        roles = chunk.roles
        if not roles.has_choice:
            return _without_choice(chunk, rows=self.rows.stop - self.rows.start)
        if scores is None:
            scored = self._scores(roles)
            assert scored is not None
            scores = _read(scored)
        history = (choose_history(roles.candidates, row, roles.history_frames) for row in scores)
        return Selection(chunk=chunk, history=tuple(history), scores=scores)

    def _stack(self, frames: tuple[int, ...]) -> Tensor:
        like = next(iter(self._means.values()))
        means = [self._means[f] for f in frames]
        return torch.stack(means, dim=1) if means else like.new_zeros(len(like), 0, like.shape[-1])

    def _arrange(self) -> list[Move]:
        """What must move so that the chosen memory stands where the coming chunk reads it."""
        chunk = self.selection.chunk
        moves: dict[tuple[int, int | Pinned, int], list[int]] = {}
        for row, history in enumerate(self.selection.history):
            past = self._past(chunk, history)
            first = -chunk.length_frames - len(past)
            for position, (frame, time) in enumerate(past, first):
                if self._placed.get((position, row)) != (frame, time):
                    self._placed[position, row] = (frame, time)
                    moves.setdefault((position, frame, time), []).append(row)
        everyone = len(self.selection.history)
        return [
            Move(FrameRows(frame, row), position, time)
            for (position, frame, time), rows in moves.items()
            for row in ([None] if len(rows) == everyone else rows)
        ]

    def _past(self, chunk: Chunk, history: tuple[int, ...]) -> list[tuple[int | Pinned, int]]:
        """What a chunk reads and at which times; moments come before all else, whatever is read."""
        frames = chunk.roles.attended(history)
        times = self._plan.policy.times(frames, chunk.first_frame)
        pinned = [Pinned(frame) for frame in chunk.roles.pinned]
        before = min(times, default=0) - len(pinned)
        return [*zip(pinned, itertools.count(before)), *zip(frames, times, strict=True)]

    def _at_hand(self, layer: int) -> Arrangement:
        """What can move now; moments that are found later wait until they are read."""
        moves, places = self._next
        late = [
            move
            for move in moves
            if isinstance(frame := move.what.frame, Pinned)
            and layer not in self._moments[frame.film_frame]
        ]
        if not late:
            return self._next
        self._waiting[layer] = Arrangement(late, {})
        return Arrangement([move for move in moves if move not in late], places)

    def _place(
        self, layer: int, coming: list[tuple[Memory, Arrangement, dict[int, Pair]]]
    ) -> list[dict[FrameRows, Pair]]:
        """Put what must move in memories of this buffer, from where it is stored or from the chunk.

        Returns what was loaded for each; what the next layer needs is on its way then.
        """
        loaded = [arrangement.load(layer) for _, arrangement, _ in coming]
        placed = [
            each
            for (memory, arrangement, fresh), stored in zip(coming, loaded, strict=True)
            for each in memory._placements(layer, arrangement.moves, stored, fresh)
        ]
        self.buffer.place(layer, placed)
        if layer + 1 < self.buffer.layers:
            for _, arrangement, _ in coming:
                arrangement.fetch(layer + 1)
        return loaded

    def _placements(
        self,
        layer: int,
        moves: list[Move],
        stored: dict[FrameRows, Pair],
        fresh: dict[int, Pair],
    ) -> Iterator[Placed]:
        for what, position, time in moves:
            frame = what.frame
            if what in stored:
                keys, values = stored[what]
            else:
                pair = (
                    self._moments[frame.film_frame][layer]
                    if isinstance(frame, Pinned)
                    else fresh[frame]
                )
                keys, values = (tensor[what.rows] for tensor in pair)
            first = self.rows.start + (what.row or 0)
            yield Placed(position, slice(first, first + len(keys)), time, (keys, values))


def _turn_to_next(together: Sequence[Memory], chunk: Chunk, keys: Sequence[Tensor]) -> None:
    """Choose for the next chunk in memories of one plan; the host waits once for all scores."""
    scored = [memory._meet(chunk, own) for memory, own in zip(together, keys, strict=True)]
    there = [scores for scores in scored if scores is not None]
    read = iter(_read(torch.cat(there)) if there else ())
    for memory, scores in zip(together, scored, strict=True):
        own = None if scores is None else tuple(itertools.islice(read, len(scores)))
        memory._turn_to_next(chunk, own)


def _read(scores: Tensor) -> Scores:
    return tuple(map(tuple, scores.tolist()))


def _spans(roles: Roles, wanted: tuple[Role, ...]) -> list[Span]:
    """Where the wanted roles lie in a buffer that holds all of them, right before the chunk."""
    left = roles.attended_frames
    if wanted == ROLES:
        return [(left, 0)] if left else []
    spans: list[Span] = []
    for role, frames in roles.sizes:
        if role in wanted and frames:
            touches = spans and spans[-1][1] == left
            first = spans.pop()[0] if touches else left
            spans.append((first, left - frames))
        left -= frames
    return spans


def _without_choice(chunk: Chunk, rows: int) -> Selection:
    history = chunk.roles.candidates[: chunk.roles.history_frames]
    return Selection(chunk=chunk, history=(history,) * rows, scores=((),) * rows)
