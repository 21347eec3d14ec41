"""Where a running rollout takes new words: edits in order, each for a chunk that is not begun.

Other threads ask, the sampling thread looks between two chunks. The words at any time are those of
the graph with all edits in them, so that queueing them is the same video. The table of running
rollouts is the one thing of this pack that is global.
"""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...direction.chunks import Chunks
from ...direction.editing import Edit, edited
from ...direction.script import TRANSITIONS, Transition
from ...direction.shots import Shot
from ..film.output import workflow_metadata
from ..request import Request
from ..web.gate import Refused, shown
from .graph import Graph
from .redirect import WHOLE_SHOT, ended, laid_anew, redirected

_running: dict[tuple[str, str], "Desk"] = {}  # by prompt and node
_changed: Counter[str] = Counter()  # by node: results that the host has under other inputs


@dataclass(frozen=True, kw_only=True)
class Wish:
    """New words for a conditioning, from a second on or from the next chunk that is not begun."""

    text: str
    start_seconds: float | None = None
    transition: str | None = None  # checked as what it is when it is taken
    blend_seconds: float | None = None
    remember_seconds: float | None = None
    conditioning: str = "positive"


@dataclass(frozen=True, kw_only=True)
class _Queued:
    number: int
    name: str
    chunk: int
    edit: Edit


class Desk:
    """Takes edits of one rollout, from whichever thread.

    `request` is what the sampling thread makes, as it is steered, and `graph` what files carry of
    the graph that says so; `client_id` is the browser that queued it, if one did.

    Args:
        request: what was asked for.
        hidden: what the host told the node of its graph.
    """

    def __init__(self, request: Request, hidden: io.HiddenHolder | None = None) -> None:
        self._lock = threading.Lock()
        self.request = request
        self._request = request
        self._chunks = Chunks(
            total_frames=request.latent_frames,
            chunk_frames=request.frames_per_chunk,
            prefix_frames=request.prefix_frames,
            fps=Fraction(request.fps),
        )
        self._graph = Graph(hidden)
        self.graph = workflow_metadata(hidden)
        self.client_id = getattr(getattr(PromptServer, "instance", None), "client_id", None)
        self._node_id = hidden.unique_id if hidden else None
        self._begun: int | None = None
        self._enough = False
        self._edits: tuple[_Queued, ...] = ()
        self._numbers = itertools.count(1)
        self._written = {name: source.text for name, source in request.sources.items()}
        self._texts = dict(self._written)
        self._shots = {name: request.shots.get(name, WHOLE_SHOT) for name in self._written}
        self._said = self._coming = self._texts
        self._ends = False

    # --- any thread -------------------------------------------------------------------------------

    def direct(self, wish: Wish) -> dict[str, object]:
        """Take new words; the answer says from where on they hold.

        Raises:
            Refused: nothing was changed.
        """
        name = wish.conditioning
        _check_wish(wish)
        with self._lock:
            self._check(name)
            chunk = self._next() if wish.start_seconds is None else self._chunk(wish.start_seconds)
            queued = _Queued(
                number=next(self._numbers),
                name=name,
                chunk=chunk,
                edit=Edit(
                    frame=self._chunks.start(chunk),
                    words=wish.text,
                    transition=cast(Transition | None, wish.transition),
                    blend_seconds=wish.blend_seconds,
                    moment_frame=self._video_frame(wish.remember_seconds),
                ),
            )
            before = self._take((*self._edits, queued), queued)
            return self._told(queued, before)

    def withdraw(self, number: int) -> dict[str, object]:
        """Take an edit back whose chunk is not begun.

        Raises:
            Refused: there is none, or its chunk is begun.
        """
        with self._lock:
            found = [queued for queued in self._edits if queued.number == number]
            if not found:
                raise Refused(404, f"No edit {number} is known of this run.")
            queued = found[0]
            if self._begun is None or queued.chunk <= self._begun:
                raise Refused(
                    409,
                    f"edit {number} holds from chunk {queued.chunk + 1} on, which is begun: direct "
                    "the chunks after it instead.",
                )
            before = self._take(tuple(q for q in self._edits if q is not queued), queued)
            return self._told(queued, before)

    def enough(self) -> dict[str, object]:
        """Let the video end with the chunk that is being made.

        Raises:
            Refused: none is being made yet.
        """
        with self._lock:
            self._check_begun()
            self._enough = True
            assert self._begun is not None
            end = min(self._chunks.start(self._begun + 1), self._chunks.end)
            return {"chunk": self._begun + 1, "seconds": end / self._request.fps}

    def _check(self, name: str) -> None:
        source = self._request.sources.get(name)
        if source is None:
            raise Refused(
                409,
                f"{name} does not come from Relax Forcing Prompt Schedule as that gave it: connect "
                "that node to the sampler, with nothing between.",
            )
        refusal = self._graph.refusal(source.node_id)
        if refusal:
            raise Refused(409, refusal)
        self._check_begun()

    def _check_begun(self) -> None:
        if self._begun is None:
            raise Refused(409, "This run has not begun its first chunk yet: ask again when it has.")
        if self._enough:
            raise Refused(409, "This run was told that it is enough: it ends with this chunk.")

    def _next(self) -> int:
        assert self._begun is not None
        following = self._begun + 1
        if following >= self._chunks.count:
            raise Refused(
                409, "The last chunk is begun: queue the changed text with a longer length."
            )
        return following

    def _chunk(self, seconds: float) -> int:
        """The chunk that begins nearest to a time, as Prompt Schedule has it."""
        chunks, frame = self._chunks, Fraction(str(seconds)) * self._chunks.fps
        if not 0 <= frame < chunks.end:
            raise Refused(
                409,
                f"start_seconds is {seconds:g}, but the video goes from 0 to "
                f"{chunks.told(chunks.end)} s: give a time in it.",
            )
        following, chunk = self._next(), chunks.nearest(frame)
        if chunk < following:
            raise Refused(
                409,
                f"start_seconds is {seconds:g}, but the chunk there is begun: the next one begins "
                f"at {chunks.told(chunks.start(following))} s.",
            )
        return chunk

    def _video_frame(self, seconds: float | None) -> int | None:
        if seconds is None:
            return None
        return int(Fraction(str(seconds)) * Fraction(self._request.fps))

    def _take(self, edits: tuple[_Queued, ...], changed: _Queued) -> str:
        """Let these be the edits, if that changes nothing before the chunk of the one changed; the
        text that they change.
        """
        name, request = changed.name, self._request
        source = request.sources[name]
        own = [queued.edit for queued in edits if queued.name == name]
        try:
            text = edited(
                self._written[name],
                own,
                self._chunks,
                transition=source.transition,
                blend_seconds=source.blend_seconds,
            )
            shots = laid_anew(request, name, text)
        except ValueError as error:
            raise Refused(400, f"These words cannot be put into the text: {error}") from error
        laid = shots.shots.get(name, WHOLE_SHOT)
        if _before(changed.chunk, laid) != _before(changed.chunk, self._shots[name]):
            raise Refused(
                409,
                "The prefix has scenes that a text with shots would forget: write the scenes into "
                "the text and queue that.",
            )
        before = self._texts[name]
        self._edits = edits
        self._texts = self._texts | {name: text}
        self._shots[name] = laid
        return before

    def _told(self, queued: _Queued, before: str) -> dict[str, object]:
        return {
            "edit": queued.number,
            "conditioning": queued.name,
            "node_id": self._request.sources[queued.name].node_id,
            "before": before,
            "text": self._texts[queued.name],
            "chunk": queued.chunk + 1,
            "seconds": self._chunks.start(queued.chunk) / self._request.fps,
        }

    # --- the sampling thread ----------------------------------------------------------------------

    def begin(self, chunk: int) -> bool:
        """Say that a chunk is being made now, unless something must be `steered` before it."""
        with self._lock:
            self._coming, self._ends = self._texts, self._enough
            if not self._ends:
                self._begun = chunk
            return self._ends or self._coming != self._said

    def steered(self, finished_frames: int) -> Request:
        """The request with what was asked for when the last chunk began, and the graph with it."""
        for name, text in self._coming.items():
            if text != self._said[name]:
                self._graph.write(self.request.sources[name].node_id, text)
                if not self._ends:
                    self.request = redirected(self.request, name, text)
        self._said = self._coming
        if self._ends:
            chunks = self._chunks.chunk_of(finished_frames - 1) + 1
            self.request = ended(self.request, finished_frames, chunks)
        if self._node_id is not None:
            _changed[self._node_id] += 1
        return self.request


def _before(chunk: int, shots: tuple[Shot, ...]) -> tuple[Shot, ...]:
    return tuple(shot for shot in shots if shot.first_chunk < chunk)


def _check_wish(wish: Wish) -> None:
    choices = {"conditioning": ("positive", "negative"), "transition": (None, *TRANSITIONS)}
    for name, known in choices.items():
        if (given := getattr(wish, name)) not in known:
            raise Refused(400, f"{name} is {shown(given)}: use {', '.join(filter(None, known))}.")
    if wish.blend_seconds is not None and wish.transition != "blend":
        raise Refused(
            400,
            f"blend_seconds is {wish.blend_seconds:g}, but only a blend takes time: give "
            "transition blend, or leave blend_seconds out.",
        )
    if not wish.text.strip():
        raise Refused(400, "text has no words: write some.")
    if wish.remember_seconds is not None and wish.remember_seconds < 0:
        raise Refused(400, f"remember_seconds is {wish.remember_seconds:g}: give a time.")


@contextmanager
def running(desk: Desk) -> Iterator[Desk]:
    """Let a rollout be found for as long as it runs, by the node that is being executed."""
    where = get_executing_context()
    key = where and (where.prompt_id, where.node_id)
    if key:
        _running[key] = desk
    try:
        yield desk
    finally:
        if key:
            del _running[key]


def desk_of(prompt_id: str, node_id: str) -> Desk:
    """The desk of a running rollout. Raises Refused where there is none."""
    try:
        return _running[prompt_id, node_id]
    except KeyError:
        raise Refused(
            404,
            f"No video is being made by node {shown(node_id)} of prompt {shown(prompt_id)}: give "
            "the ids of a Relax Forcing Sampler or Stream that is at work.",
        ) from None


def times_steered(hidden: io.HiddenHolder | None) -> int:
    """Changes once a node has made something else than its inputs said, so that the host runs it
    again and does not hand that out for them.
    """
    return _changed[hidden.unique_id] if hidden else 0
