"""What one conditioning remembers, and what the running chunk reads of it.

Ties plan, scoring, positions and bank together for one stream of rows (one conditioning, all its
samples). The memory of the next chunk is chosen after layer 0 of a clean pass and put, rotated,
where attention will read it, layer by layer in the same pass; so a chunk finds its memory ready in
one contiguous buffer per layer, and what is already in place stays (rotated sinks, for example).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .bank import Bank
from .buffer import KeyValueBuffer
from .lane import Lane
from .plan import Chunk, Plan
from .rope import memory_times
from .scoring import choose_history, frame_means, relaxation_scores

Rotate = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What each row of a chunk reads: history and scores are one tuple per row."""

    chunk: Chunk
    history: tuple[tuple[int, ...], ...]
    scores: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Move:
    """One frame to be put, rotated to `time`, at a `position` of the buffer for some rows."""

    position: int
    frame: int
    time: int
    bank: Bank
    slot: int | None
    rows: slice | list[int]


class Memory:
    """The memory of one stream.

    Args:
        plan: the rollout's plan.
        layers: number of transformer blocks.
        rows: samples in this stream.
        rotate: `(keys [B, tokens, heads, head_dim] of one frame, time) -> rotated keys`.
        dtype: precision of stored history candidates, see `storage`.
        lane: stores in host memory through this lane; None: on the device of the model.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        layers: int,
        rows: int,
        rotate: Rotate,
        dtype: str = "model",
        lane: Lane | None = None,
    ) -> None:
        def bank(dtype: str, exact: bool) -> Bank:
            frames = plan.peak_frames(ahead_chunks=2, exact=exact)
            return Bank(layers=layers, capacity_frames=frames, dtype=dtype, lane=lane)

        self._plan = plan
        self._rotate = rotate
        self._layers = layers
        self.banks = {True: bank("model", exact=True), False: bank(dtype, exact=False)}
        self.buffer = KeyValueBuffer(layers=layers, rows=rows, frames=plan.buffer_frames)
        self.selection = _without_choice(plan.chunk(0), rows)
        self._means: dict[int, Tensor] = {}
        self._stored: list[int] = []
        self._moves: list[Move] = []
        self._ready = [0] * layers
        self._placed: dict[tuple[int, int], tuple[int, int]] = {}

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held, stored and ready to read."""
        return sum(bank.bytes for bank in self.banks.values()) + self.buffer.bytes

    def read(self, chunk: Chunk, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of memory and chunk together, views that hold until `commit`.

        Args:
            keys, values: of the running chunk `[B, L, heads, head_dim]`, keys rotated.

        Raises:
            RuntimeError: this layer did not take part in the clean pass of the chunk before.
        """
        if self._ready[layer] != chunk.index:
            raise RuntimeError(
                f"Layer {layer} reads memory for chunk {chunk.index}, but what it remembers ends "
                f"with chunk {self._ready[layer] - 1}: something skipped the model or a layer of "
                "it, so remove start and end percentages of conditionings and nodes that skip "
                "steps or blocks."
            )
        attended = chunk.roles.attended_frames
        return self.buffer.append(layer, attended, chunk.length_frames, keys, values)

    def commit(self, chunk: Chunk, layer: int, keys: Tensor, values: Tensor) -> None:
        """Remember a clean chunk in one layer and prepare what the next chunk reads there.

        Call it layer by layer, after that layer's attention.

        Args:
            keys, values: `[B, L, heads, head_dim]`, keys un-rotated.
        """
        fresh = {
            frame: (key, value)
            for frame, key, value in zip(
                chunk.frames,
                keys.chunk(chunk.length_frames, dim=1),
                values.chunk(chunk.length_frames, dim=1),
                strict=True,
            )
        }
        if layer == 0:
            self._turn_to_next(chunk, keys)
        self._prepare(layer, fresh)
        self._ready[layer] = chunk.index + 1
        for frame in self._stored:
            if frame in fresh:
                self._bank(frame).store(layer, frame, *fresh[frame])
        if layer + 1 < self._layers:
            for move in self._moves:
                if move.slot is not None:
                    move.bank.fetch(layer + 1, move.slot)

    def _turn_to_next(self, chunk: Chunk, keys: Tensor) -> None:
        """Choose for the next chunk, note what must move, and forget what nothing will read."""
        following = self._plan.chunk(chunk.index + 1)
        means = frame_means(keys, chunk.length_frames)
        self._means.update(zip(chunk.frames, means.unbind(1), strict=True))
        self.selection = self._choose(following, rows=keys.shape[0])
        self._moves = self._arrange(chunk)
        known = (*self._stored, *chunk.frames)
        self._stored = [f for f in known if self._plan.last_reader(f) > following.index]
        for exact, bank in self.banks.items():
            bank.keep(f for f in self._stored if self._plan.is_exact(f) == exact)
        self._means = {f: self._means[f] for f in self._stored}

    def _choose(self, chunk: Chunk, rows: int) -> Selection:
        roles = chunk.roles
        if not roles.has_choice:
            return _without_choice(chunk, rows)
        parts = (roles.candidates, roles.sink, roles.tail)
        scores = relaxation_scores(*map(self._stack, parts), self._plan.policy.redundancy_weight)
        scores = tuple(map(tuple, scores.tolist()))
        history = (choose_history(roles.candidates, row, roles.history_frames) for row in scores)
        return Selection(chunk=chunk, history=tuple(history), scores=scores)

    def _stack(self, frames: tuple[int, ...]) -> Tensor:
        like = next(iter(self._means.values()))
        means = [self._means[f] for f in frames]
        return torch.stack(means, dim=1) if means else like.new_zeros(len(like), 0, like.shape[-1])

    def _arrange(self, chunk: Chunk) -> list[Move]:
        """What must move so that the chosen memory stands before the chunk after `chunk`."""
        following = self.selection.chunk
        end = self.buffer.frames - chunk.length_frames
        placed = {where: what for where, what in self._placed.items() if where[0] < end}
        moves: dict[tuple[int, int, int], list[int]] = {}
        for row, history in enumerate(self.selection.history):
            frames = following.roles.attended(history)
            times = memory_times(frames, following.first_frame, self._plan.policy.rope)
            first = self.buffer.frames - following.length_frames - len(frames)
            for position, (frame, time) in enumerate(zip(frames, times, strict=True), first):
                if placed.get((position, row)) != (frame, time):
                    placed[position, row] = (frame, time)
                    moves.setdefault((position, frame, time), []).append(row)
        self._placed = placed
        everyone = list(range(len(self.selection.history)))
        return [
            Move(
                *where,
                bank=self._bank(where[1]),
                slot=self._bank(where[1]).slot(where[1]),
                rows=slice(None) if rows == everyone else rows,
            )
            for where, rows in moves.items()
        ]

    def _bank(self, frame: int) -> Bank:
        return self.banks[self._plan.is_exact(frame)]

    def _prepare(self, layer: int, fresh: dict[int, tuple[Tensor, Tensor]]) -> None:
        for move in self._moves:
            if move.frame in fresh:
                keys, values = fresh[move.frame]
            else:
                keys, values = move.bank.load(layer, move.slot)
            pair = self._rotate(keys[move.rows], move.time), values[move.rows]
            self.buffer.place(layer, move.position, move.rows, pair)


def _without_choice(chunk: Chunk, rows: int) -> Selection:
    history = chunk.roles.candidates[: chunk.roles.history_frames]
    return Selection(chunk=chunk, history=(history,) * rows, scores=((),) * rows)
