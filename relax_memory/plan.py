"""What every chunk of a rollout may read, and how long each frame must be kept.

Candidates depend on counts, never on content, so all of this is known before the first chunk.
Pure integers; knows no tensors. Implements "liveness", section 3.1 of the design.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator

from .passes import Chunk
from .policies import Policy

NEVER = -1
MOST_AT_HAND = 8  # chunks; the running one and its neighbours are asked for often


def _as_it_is(chunk: Chunk) -> Chunk:
    return chunk


class Plan:
    """The chunks of a scene and the last reader of each frame; a video without cuts is one scene.

    A prefix of `P` frames is one chunk of `P mod n` frames (if any) and then chunks of `n`. With
    `total_frames` None the rollout is open-ended: ask for chunks as long as you like.

    Args:
        total_frames: latent frames of the whole video, prefix included.
        chunk_frames: latent frames generated together, `n`.
        prefix_frames: latent frames given at the beginning.
        whole_chunks: make the last chunk whole (and the video longer) instead of cutting it.
        most_frames: of a scene that may get longer while it is made: what it would read then is
            kept as well.
        linger_chunks: how long a frame stays after its last reader, so that the newest chunks can
            be remembered once more under other words.
        staged: puts a chunk into its place in the film.

    Raises:
        ValueError: sizes out of range, or a policy that cannot serve such chunks.
    """

    def __init__(  # noqa: PLR0913
        self,
        policy: Policy,
        *,
        total_frames: int | None,
        chunk_frames: int,
        prefix_frames: int = 0,
        whole_chunks: bool = True,
        most_frames: int = 0,
        linger_chunks: int = 0,
        staged: Callable[[Chunk], Chunk] = _as_it_is,
    ) -> None:
        if chunk_frames < 1:
            raise ValueError(f"frames_per_chunk is {chunk_frames}: use 1 or more.")
        if prefix_frames < 0:
            raise ValueError(f"prefix_frames is {prefix_frames}: use 0 or more.")
        assert total_frames is None or prefix_frames <= total_frames, "a prefix is a beginning"
        self.policy = policy
        self.chunk_frames = chunk_frames
        self.prefix_frames = prefix_frames
        self.total_frames = total_frames
        self.most_frames = most_frames
        self.linger_chunks = linger_chunks
        self._staged = staged
        self._remainder_frames = prefix_frames % chunk_frames
        self._cut_frames = total_frames if total_frames is not None and not whole_chunks else None
        self._last_reader: dict[int, int] = {}
        self._last_certain_reader: dict[int, int] = {}
        self._scanned_chunks = 0
        self._at_hand: dict[int, Chunk] = {}
        policy.roles(prefix_frames, chunk_frames)

    @property
    def chunk_count(self) -> int | None:
        """Chunks of the rollout, given ones included; None when it is open-ended."""
        return None if self.total_frames is None else self.chunk_of(self.total_frames - 1) + 1

    def chunk_of(self, frame: int) -> int:
        """Index of the chunk that holds `frame`."""
        return (frame - self._remainder_frames) // self.chunk_frames + self._shift

    @property
    def _shift(self) -> int:
        return 1 if self._remainder_frames else 0

    def chunk(self, index: int) -> Chunk:
        """The chunk `index`, counted from the beginning of the video.

        Raises:
            IndexError: the rollout has no such chunk.
        """
        if index in self._at_hand:
            return self._at_hand[index]
        if index < 0 or not self.has_chunk(index):
            raise IndexError(f"The plan has {self.chunk_count} chunks, there is no chunk {index}.")
        if len(self._at_hand) == MOST_AT_HAND:
            self._at_hand.clear()
        self._at_hand[index] = chunk = self._made(index)
        return chunk

    def _made(self, index: int) -> Chunk:
        first, length = self._extent(index)
        return self._staged(
            Chunk(
                index=index,
                first_frame=first,
                length_frames=length,
                given=first < self.prefix_frames,
                roles=self.policy.roles(first, length),
            )
        )

    def _extent(self, index: int) -> tuple[int, int]:
        """First frame and length of a chunk."""
        if index == 0 and self._remainder_frames:
            first, length = 0, self._remainder_frames
        else:
            first = self._remainder_frames + (index - self._shift) * self.chunk_frames
            length = self.chunk_frames
        if self._cut_frames is not None:
            length = min(length, self._cut_frames - first)
        return first, length

    def __iter__(self) -> Iterator[Chunk]:
        indices = itertools.count() if self.chunk_count is None else range(self.chunk_count)
        return map(self.chunk, indices)

    def has_chunk(self, index: int) -> bool:
        return self.chunk_count is None or index < self.chunk_count

    def last_reader(self, frame: int) -> int:
        """Index of the last chunk that may read `frame`, or `NEVER`.

        For an open-ended rollout: of the chunks that the policy reaches from the chunk of `frame`,
        so that a sink, which is always read, has a later one. `is_read_after` has no such limit.
        """
        self._scan(self.chunk_of(frame) + self._lookahead_chunks)
        return self._last_reader.get(frame, NEVER)

    def is_read_after(self, frame: int, chunk: int, *, certain: bool = False) -> bool:
        """Whether a chunk after the chunk `chunk` may read `frame`; `certain`: as sink or tail."""
        self._scan(chunk + self._lookahead_chunks)
        readers = self._last_certain_reader if certain else self._last_reader
        return readers.get(frame, NEVER) > chunk

    def stays_after(self, frame: int, chunk: int) -> bool:
        """Whether a frame is kept once the chunk `chunk` has found its memory."""
        return self.is_read_after(frame, chunk - self.linger_chunks)

    def is_certain_after(self, frame: int, chunk: int) -> bool:
        """Whether a frame that is kept then is one to be read as sink or tail.

        One that only lingers counts as what it was last read as.
        """
        if not self.is_read_after(frame, chunk):
            chunk -= self.linger_chunks
        return self.is_read_after(frame, chunk, certain=True)

    def peak_frames(self, ahead_chunks: int, *, certain: bool | None = None) -> int:
        """The most frames that are kept at once, when chunk `c` still keeps those that `c + ahead`
        or a later chunk may read, and those that linger.

        `ahead_chunks` 0: past frames that are live while a chunk is made. `ahead_chunks` 2: frames
        that need storage after a chunk is committed, because the memory of the next chunk goes
        straight to where attention reads it. `certain` True counts those that are still to be read
        for certain, as sink or tail, False the others.
        """
        if self.chunk_count is None:
            return self._steady_state().peak_frames(ahead_chunks, certain=certain)
        self._scan(self.chunk_count - 1)
        change: Counter[int] = Counter()
        for frame in self._last_reader:
            for first, until in self._kept(frame, ahead_chunks, certain):
                if until >= first:
                    change[first] += 1
                    change[until + 1] -= 1
        return max(itertools.accumulate(change[i] for i in range(self.chunk_count)))

    def _kept(
        self, frame: int, ahead_chunks: int, certain: bool | None
    ) -> Iterator[tuple[int, int]]:
        """From which to which chunk a frame takes a place.

        What is live while a chunk is made came before it, so it counts from the chunk after its
        own; what needs storage after a commit counts from its own. A frame that is still to be read
        as sink or tail lies with the certain ones until that is over, and with the others from then
        on. What lingers lies where it was last read from.
        """
        own = self.chunk_of(frame) + (ahead_chunks == 0)
        until = self._last_reader[frame] - ahead_chunks
        until_certain = self._last_certain_reader.get(frame, NEVER) - ahead_chunks
        lingers = self.linger_chunks
        if certain is None:
            yield own, until + lingers
        elif certain:
            yield own, until_certain
            yield max(own, until + 1), until_certain + lingers
        else:
            yield max(own, until_certain + 1), until
            yield max(own, until + 1, until_certain + lingers + 1), until + lingers

    @property
    def buffer_frames(self) -> int:
        """The most frames that attention reads at once, the chunk's own included."""
        plan = self._steady_state() if self.chunk_count is None else self
        return max(c.roles.attended_frames + c.length_frames for c in plan)

    @property
    def fetched_frames(self) -> int:
        """The most frames that attention reads and the chunk before has not made."""
        plan = self._steady_state() if self.chunk_count is None else self
        return max(c.roles.attended_frames - self._made_before(c) for c in plan)

    def _made_before(self, chunk: Chunk) -> int:
        """Frames of the chunk before that this one reads in any case."""
        before = range(chunk.first_frame - self.chunk_frames, chunk.first_frame)
        return len({*chunk.roles.sink, *chunk.roles.tail}.intersection(before))

    def _steady_state(self) -> "Plan":
        """A finite plan long enough to reach the peak of an open-ended one."""
        if self.policy.reach_frames is None:
            raise ValueError("An unlimited window without an end needs unlimited memory.")
        past_frames = reach = self.policy.reach_frames + 1
        while past_frames < reach + len(self.policy.roles(past_frames, self.chunk_frames).sink):
            past_frames *= 2  # until all sinks are there
        return Plan(
            self.policy,
            total_frames=self.prefix_frames + past_frames + 3 * (reach + self.chunk_frames),
            chunk_frames=self.chunk_frames,
            prefix_frames=self.prefix_frames,
            linger_chunks=self.linger_chunks,
        )

    @property
    def _lookahead_chunks(self) -> int:
        reach = self.policy.reach_frames
        return 2 if reach is None else math.ceil(reach / self.chunk_frames) + 2

    def _scan(self, until_chunk: int) -> None:
        if self.total_frames is not None:
            until_chunk = self.chunk_of(self.total_frames - 1)
            if self.most_frames > self.total_frames:
                longest = self.chunk_of(self.most_frames - 1)
                until_chunk = min(longest, until_chunk + self._lookahead_chunks)
        for index in range(self._scanned_chunks, until_chunk + 1):
            roles = self.policy.roles(*self._extent(index))  # whichever moment it reads beside
            self._last_reader.update(dict.fromkeys(roles.readable, index))
            self._last_certain_reader.update(dict.fromkeys(roles.sink + roles.tail, index))
        self._scanned_chunks = max(self._scanned_chunks, until_chunk + 1)
