"""Which scene, words and moment every chunk of a film has: shots laid over the plans of its scenes.

A scene has a memory and a count of frames of its own and goes on where it stopped when it comes
back, so each has a `Plan`, and a film is made of pieces of them. Words may change within a scene.
Pure integers; knows no tensors and no prompts. Section 8 of the design.
"""

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import TypeVar

from .direction.shots import Shot
from .grid import WAN, Grid
from .passes import Chunk
from .plan import Plan
from .policies import Policy
from .roles import Roles
from .scenes import Piece

T = TypeVar("T")

SCENES = "positive"  # the conditioning whose shots make scenes and moments
LINGER_CHUNKS = 2  # what the last two chunks read stays, so that they can be remembered once more


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of a prompt, or a mix: `share` of them, the rest of those of the one `before`."""

    prompt: int = 0
    before: int | None = None
    share: float = 1.0


class Storyboard:
    """The chunks of a film in order.

    Args:
        total_frames, chunk_frames, prefix_frames, whole_chunks: of the film, as for a `Plan`.
        shots: of each conditioning that has some, by its name.
        steerable: whether a shot of any kind may be named while it is made.
        grid: how its frames lie on the video, by which `fps` blends are timed.

    Raises:
        ValueError: as `Plan`; the prefix leaves nothing to make.
    """

    def __init__(  # noqa: PLR0913
        self,
        policy: Policy,
        *,
        total_frames: int,
        chunk_frames: int,
        prefix_frames: int = 0,
        whole_chunks: bool = True,
        shots: Mapping[str, tuple[Shot, ...]] | None = None,
        steerable: bool = False,
        grid: Grid = WAN,
        plan_type: type[Plan] = Plan,
    ) -> None:
        if total_frames <= prefix_frames:
            raise ValueError(
                f"The video is planned with {total_frames} latent frames, but its prefix already "
                f"has {prefix_frames}: ask for a longer video or give a shorter prefix."
            )
        film = Plan(
            policy,
            total_frames=total_frames,
            chunk_frames=chunk_frames,
            prefix_frames=prefix_frames,
            whole_chunks=whole_chunks,
        )
        assert film.chunk_count is not None, "a film has an end"
        self.policy = policy
        self.total_frames = total_frames
        self.chunk_frames = chunk_frames
        self.prefix_frames = prefix_frames
        self.chunk_count = film.chunk_count
        self.shots = dict(shots or {})
        self._film = film
        self._grid = grid
        self._pieces = self._laid_out()
        self._parts: dict[int, list[_Part]] = defaultdict(list)
        for part in self._pieces:
            self._parts[part.scene].append(part)
        recached = any(s.transition == "recache" for track in self.shots.values() for s in track)
        self.plans = tuple(
            plan_type(
                policy,
                total_frames=sum(piece.frames for piece in parts),
                chunk_frames=chunk_frames,
                prefix_frames=sum(piece.given_frames for piece in parts),
                whole_chunks=whole_chunks,
                most_frames=total_frames if steerable else 0,
                linger_chunks=LINGER_CHUNKS if recached or steerable else 0,
                staged=partial(self._staged, scene),
            )
            for scene, parts in sorted(self._parts.items())
        )

    def _laid_out(self) -> list["_Part"]:
        """The parts of scenes in the order of the film."""
        starts: list[tuple[int, int]] = []  # film chunk, scene
        for shot in self.shots.get(SCENES, ()):
            if not starts or shot.scene != starts[-1][1]:
                starts.append((shot.first_chunk, shot.scene))
        parts: list[_Part] = []
        so_far: dict[int, tuple[int, int]] = defaultdict(
            lambda: (0, 0)
        )  # chunks, frames of a scene
        starts = starts or [(0, 0)]
        for (first, scene), (end, _) in zip(
            starts, [*starts[1:], (self.chunk_count, 0)], strict=True
        ):
            first_frame = self._film.chunk(first).first_frame
            end_frame = (
                self._film.chunk(end).first_frame if end < self.chunk_count else self.total_frames
            )
            chunks, frames = so_far[scene]
            parts.append(
                _Part(
                    scene=scene,
                    first_chunk=first,
                    first_frame=first_frame,
                    frames=end_frame - first_frame,
                    given_frames=max(0, min(end_frame, self.prefix_frames) - first_frame),
                    scene_chunk=chunks,
                    scene_frame=frames,
                )
            )
            so_far[scene] = chunks + end - first, frames + end_frame - first_frame
        return parts

    def __iter__(self) -> Iterator[Chunk]:
        return map(self.chunk, range(self.chunk_count))

    def chunk(self, film_index: int) -> Chunk:
        """The chunk `film_index` of the film.

        Raises:
            IndexError: the film has no such chunk.
        """
        if not 0 <= film_index < self.chunk_count:
            raise IndexError(f"The film has {self.chunk_count} chunks, none is {film_index}.")
        part = _last(self._pieces, film_index, attrgetter("first_chunk"))
        return self.plans[part.scene].chunk(part.scene_chunk + film_index - part.first_chunk)

    def chunk_of(self, film_frame: int) -> int:
        """Number of the film's chunk that holds a frame of the film."""
        return self._film.chunk_of(film_frame)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """From which frame on which scene is seen."""
        return tuple(Piece(part.first_frame, part.scene) for part in self._pieces)

    @property
    def moments(self) -> frozenset[int]:
        """Frames of the film that are read as moments."""
        return frozenset(
            shot.moment for shot in self.shots.get(SCENES, ()) if shot.moment is not None
        )

    def film_frames(self, scene: int, frames: Iterable[int]) -> tuple[int, ...]:
        """Frames of a scene as the film counts them."""
        parts = self._parts[scene]
        found = ((frame, _last(parts, frame, attrgetter("scene_frame"))) for frame in frames)
        return tuple(frame - part.scene_frame + part.first_frame for frame, part in found)

    def goes_on(self, chunk: Chunk) -> bool:
        """Whether the scene of a chunk has another one."""
        return self.plans[chunk.scene].has_chunk(chunk.index + 1)

    def is_left_after(self, chunk: Chunk) -> bool:
        """Whether the film goes on with another scene, or ends."""
        following = chunk.film_index + 1
        return following == self.chunk_count or self.chunk(following).scene != chunk.scene

    def is_read(self, chunk: Chunk) -> bool:
        """Whether a later chunk reads it before its scene is left, or as a moment."""
        return bool(self.moments.intersection(chunk.film_frames)) or not self.is_left_after(chunk)

    def recalled(self, chunk: Chunk, *, parked: bool = False) -> range:
        """Chunks of its scene that are remembered before it, because the scene comes back.

        All of them, or where its memory was parked only the last one, which was not read till now.
        """
        part = _last(self._pieces, chunk.film_index, attrgetter("first_chunk"))
        if chunk.index == 0 or chunk.film_index != part.first_chunk:
            return range(0)
        before = self.plans[chunk.scene].chunk(chunk.index - 1)
        return range(chunk.index - (not self.is_read(before)) if parked else 0, chunk.index)

    def words(self, chunk: Chunk, *, clean: bool = False) -> dict[str, Words]:
        """By which words each conditioning that has shots is denoised, or remembered.

        A chunk is remembered under the words of the next one of its scene, where a shot begins
        there with "recache".
        """
        words = {name: self._words(name, chunk.film_index) for name in self.shots}
        if clean and self.goes_on(chunk):
            following = self.plans[chunk.scene].chunk(chunk.index + 1)
            for name in self._recached(following):
                words[name] = self._words(name, following.film_index)
        return words

    def again(self, chunk: Chunk) -> tuple[str, ...]:
        """Conditionings that remember the chunk before this one once more, before this one is.

        That is under the words of the next chunk, with which a shot begins.
        """
        if chunk.index == 0 or not self.goes_on(chunk):
            return ()
        return self._recached(self.plans[chunk.scene].chunk(chunk.index + 1))

    def _recached(self, chunk: Chunk) -> tuple[str, ...]:
        """Conditionings whose words change with this chunk, not the first of its scene, and with
        them what is remembered.
        """
        index = chunk.film_index
        before = self.plans[chunk.scene].chunk(chunk.index - 1).film_index
        return tuple(
            name
            for name in self.shots
            if (shot := self._shot(name, index)).first_chunk == index
            and shot.transition == "recache"
            and self._words(name, index) != self._words(name, before)
        )

    def _shot(self, name: str, film_index: int) -> Shot:
        return _last(self.shots[name], film_index, attrgetter("first_chunk"))

    def _words(self, name: str, film_index: int) -> Words:
        shot = self._shot(name, film_index)
        if shot.transition == "blend":
            before = _last(self.shots[name], shot.first_chunk - 1, attrgetter("first_chunk"))
            share = min(self._shot_seconds(shot, film_index) / shot.blend_seconds, 1.0)
            if share < 1 and before.prompt != shot.prompt:
                return Words(prompt=shot.prompt, before=before.prompt, share=share)
        return Words(prompt=shot.prompt)

    def _shot_seconds(self, shot: Shot, film_index: int) -> float:
        """From the first picture of a shot to the middle of the pictures of a chunk."""
        chunk = self._film.chunk(film_index)
        start, end = (
            self._grid.length(frame)
            for frame in (chunk.first_frame, chunk.first_frame + chunk.length_frames)
        )
        begin = self._grid.length(self._film.chunk(shot.first_chunk).first_frame)
        return ((start + end) / 2 - begin) / self._grid.fps

    def _staged(self, scene: int, chunk: Chunk) -> Chunk:
        """A chunk of a scene in its place in the film, with the moment that its shot remembers."""
        part = _last(self._parts[scene], chunk.index, attrgetter("scene_chunk"))
        chunk = replace(
            chunk,
            scene=scene,
            chunks_elsewhere=part.first_chunk - part.scene_chunk,
            frames_elsewhere=part.first_frame - part.scene_frame,
        )
        moment = None
        if SCENES in self.shots:
            moment = self._shot(SCENES, chunk.film_index).moment
        return chunk if moment is None else replace(chunk, roles=self._with_moment(chunk, moment))

    def _with_moment(self, chunk: Chunk, moment: int) -> Roles:
        """Roles that read a frame of the film as well, once, whatever else would read it."""
        roles, own = chunk.roles, None
        part = _last(self._pieces, moment, attrgetter("first_frame"))
        if part.scene == chunk.scene:
            own = moment - part.first_frame + part.scene_frame
            if own in roles.sink + roles.tail:
                return roles
        candidates = tuple(frame for frame in roles.candidates if frame != own)
        return replace(
            roles,
            candidates=candidates,
            history_frames=min(roles.history_frames, len(candidates)),
            pinned=(moment,),
        )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Chunks of one scene that follow on each other in the film."""

    scene: int
    first_chunk: int
    first_frame: int
    frames: int
    given_frames: int
    scene_chunk: int
    scene_frame: int


def _last(parts: Sequence[T], at: int, start: Callable[[T], int]) -> T:
    """The last of some parts that begins at or before `at`."""
    return parts[bisect.bisect_right(parts, at, key=start) - 1]
