"""The folder of one saved rollout: a file for each finished chunk, and a description for people.

`lock` is held by the process that writes; the system frees it when that process dies. A folder is
all that is needed to continue: chunks carry what they were made from and what they follow.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar, get_origin

import filelock
import torch
from torch import Tensor

from ..disk import sync_folder, unlink
from ..grid import WAN
from ..scenes import Film, film_of
from .atomic import PART, read_checked, write_checked
from .chunk import FILE_NAME, FORMAT, SavedChunk, check_format, index_and_checksum, peek_key
from .graph import GRAPH, read_graph
from .inputs import INPUTS

DESCRIPTION = "rollout.json"
LOCK = "lock"
LABEL_GAP = "  "
UNDER = "└ "  # before the label of a take, in a list where it stands under its parent
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what a disk answers that has none
FPS = "fps"  # pictures per second, where they are not the usual ones; decides nothing
FIRST_WORDS = "first words"  # of the prompt: a setting that decides nothing
FIRST_SAMPLE = "first sample"  # its number in the batch that it was begun in
TAKEN_FROM = "taken from"  # name of the rollout that its beginning is of; decides nothing
KEPT, FORGOTTEN = "kept", "forgotten"  # what a person has marked it as: an empty file of that name

MOST = 10**9  # chunks or frames; more is damage

T = TypeVar("T", int, float, str)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a rollout is to become. Nothing but lists and cleaning up depend on it.

    `made_from` holds a fingerprint of each thing that the rollout depends on, by its name. Raises
    TypeError for what is no number or no dictionary, as in a file of another program.
    """

    planned_chunks: int
    width: int
    height: int
    settings: dict[str, object]
    made_from: dict[str, str]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind = get_origin(field.type) or field.type
            assert isinstance(kind, type), "this file must not postpone its annotations"
            if not isinstance(value, kind):
                raise TypeError(f"{field.name} is {value!r}")


class SavedRollout:
    """One rollout on disk. Ask again rather than remember: others may write to the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def files(self) -> tuple[Path, ...]:
        """All chunk files by number, none of them read yet."""
        return tuple(self.folder / name for name in sorted(self._names()))

    @property
    def chunk_count(self) -> int:
        """How many chunk files there are."""
        return len(self._names())

    @property
    def bytes(self) -> int:
        """Bytes of all chunk files, of the inputs and of the graph."""
        with suppress(OSError):
            others = [self.folder / name for name in (INPUTS, GRAPH)]
            paths = (*self.files, *(path for path in others if path.exists()))
            return sum(path.stat().st_size for path in paths)
        return 0

    @property
    def changed_seconds(self) -> float:
        """When a file last came or went, in seconds since 1970; 0 when the folder is gone."""
        with suppress(OSError):
            return self.folder.stat().st_mtime
        return 0.0

    @property
    def description(self) -> Description | None:
        """What `describe` wrote; None when it is missing, damaged or of another version."""
        try:
            told: Any = read_checked(self.folder / DESCRIPTION, "rollout")
            check_format(told)
            return Description(**told["description"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def finished(self) -> bool:
        """Whether it has all the chunks that it was last to have."""
        description = self.description
        return description is not None and self.chunk_count >= description.planned_chunks

    @property
    def mark(self) -> str:
        """`KEPT`, `FORGOTTEN` or "": what cleaning up is to do with it."""
        return next((m for m in (KEPT, FORGOTTEN) if (self.folder / m).exists()), "")

    def told(self, setting: str, usual: T) -> T:
        """What its description says of a setting; the usual where it says nothing of that kind."""
        description = self.description
        value = description.settings.get(setting) if description else None
        return value if isinstance(value, type(usual)) else usual

    @property
    def graph(self) -> dict[str, object]:
        """Prompt and workflow that made it last; empty where they are not known."""
        return read_graph(self.folder)

    @property
    def taken_from(self) -> str:
        """Name of the rollout that its beginning is of, as it was then; "" for none."""
        return self.told(TAKEN_FROM, "")

    @property
    def label(self) -> str:
        """What a person knows a video by, in a line: its name first, how far it is last."""
        description, count = self.description, self.chunk_count
        if description is None:
            return f"{self.name}{LABEL_GAP}{count} chunks"
        size = f"{description.width}x{description.height}"
        far = "all" if count >= description.planned_chunks else f"{count} of"
        known = [_seconds(description, count), _words(description)]
        chunks = f"{far} {description.planned_chunks} chunks"
        return LABEL_GAP.join([self.name, *filter(None, known), size, chunks])

    def chunks(self) -> Iterator[SavedChunk]:
        """The chunks in order. Raises ValueError at the first that cannot be used."""
        before: SavedChunk | None = None
        for index, path in enumerate(self.files):
            chunk = SavedChunk.read(path)
            if chunk.trace.index != index or not chunk.continues(before):
                raise ValueError(f"{path} does not follow on the chunk before it.")
            before = chunk
            yield chunk

    def latents(self) -> Tensor:
        """The latents of `film`."""
        return self.film()[0]

    def film(
        self, until: Callable[[int], int] | None = None
    ) -> tuple[Tensor, Film, list[tuple[int, str]]]:
        """All chunks that can be used as one video `[B, C, T, H, W]`, its pieces, and where words
        begin, with the first of them; none for a video of one shot.

        Args:
            until: from how many frames there are to the one at which it is to end; it ends with the
                chunk whose end is nearest to that.

        Raises:
            ValueError: not even the first can be used.
        """
        found: list[SavedChunk] = []
        try:
            for chunk in self.chunks():
                found.append(chunk)
        except ValueError as error:
            if not found:
                raise
            logger.warning("The video ends after %d chunks: %s", len(found), error)
        if until is not None:
            ends = [chunk.trace.frames[0] + len(chunk.trace.frames) for chunk in found]
            end = until(ends[-1])
            nearest = min(range(len(ends)), key=lambda index: abs(ends[index] - end))
            found = found[: nearest + 1]
        traces = [chunk.trace for chunk in found]
        pieces = film_of((trace.frames[0], trace.scene) for trace in traces)
        alike = groupby(traces, key=lambda trace: (trace.words, trace.scene))
        shots = [(next(group).frames[0], words) for (words, _), group in alike]
        latents = torch.cat([chunk.latents for chunk in found], dim=2)
        return latents, pieces, shots if len(shots) > 1 and any(t.words for t in traces) else []

    def may_have(self, index: int, key: str) -> bool:
        """Whether the chunk `index` says that this is its key, or cannot be read, or is lost."""
        names = {index_and_checksum(name)[0]: name for name in self._names()}
        if index in names:
            return peek_key(self.folder / names[index]) in (None, key)
        return index < max(names, default=0)

    def matching(self, keys: list[str]) -> int:
        """How many of its first chunks can be used and have these keys."""
        count = 0
        try:
            for key, chunk in zip(keys, self.chunks(), strict=False):
                if chunk.key != key:
                    break
                count += 1
        except ValueError as error:
            logger.warning("A saved chunk and those after it are left out: %s", error)
        return count

    def _names(self) -> list[str]:
        with suppress(OSError):
            return [name for name in os.listdir(self.folder) if FILE_NAME.fullmatch(name)]
        return []

    @contextmanager
    def hold(self) -> Iterator[None]:
        """What a writer enters; raises filelock.Timeout on entry while another one is in it.

        On a disk without locks everybody may enter: two writers of one rollout are rare, and a file
        that stands for a lock would outlive every process that is killed.
        """
        lock = filelock.FileLock(self.folder / LOCK, timeout=0)
        with ExitStack() as held:
            try:
                held.enter_context(lock)
            except (NotImplementedError, OSError) as error:
                if getattr(error, "errno", errno.ENOSYS) not in NO_LOCKS:
                    raise
                logger.debug("%s: %s", self.folder, error)
            yield

    def describe(self, description: Description) -> None:
        """Write or replace the description. Raises OSError."""
        rollout = {"format": FORMAT, "description": asdict(description)}
        write_checked(self.folder / DESCRIPTION, "rollout", rollout)

    def mark_as(self, mark: str) -> None:
        """Replace its mark, also while someone writes to it. Raises OSError."""
        changed = self.folder.stat()
        for other in {KEPT, FORGOTTEN} - {mark}:
            unlink(self.folder / other)
        if mark:
            (self.folder / mark).touch()
        with suppress(OSError):  # a mark makes it no younger
            os.utime(self.folder, ns=(changed.st_atime_ns, changed.st_mtime_ns))
        sync_folder(self.folder)

    def delete(self) -> bool:
        """Remove the rollout, and nothing in its folder that does not belong to it.

        The newest chunk goes first: what an accident leaves is a shorter rollout. Returns False,
        with nothing done, while someone writes to it. Raises OSError.
        """
        try:
            with self.hold():
                for path in reversed(self.files):
                    unlink(path)
                for name in (PART, INPUTS, GRAPH, DESCRIPTION, KEPT, FORGOTTEN):
                    unlink(self.folder / name)
        except filelock.Timeout:
            return False
        unlink(self.folder / LOCK)
        with suppress(OSError):  # something else lies in it
            self.folder.rmdir()
        return True


def _seconds(description: Description, count: int) -> str:
    """ "12 of 60 s", or "60 s" when all is there; "" where the size of a chunk is not known."""
    chunk_frames = description.settings.get("frames_per_chunk")
    prefix_frames = description.settings.get("prefix_frames", 0)  # version 0.1 does not say
    if not isinstance(chunk_frames, int) or not isinstance(prefix_frames, int) or chunk_frames < 1:
        return ""
    if max(chunk_frames, abs(prefix_frames), abs(description.planned_chunks)) > MOST:
        return ""
    missing_frames = -prefix_frames % chunk_frames  # of the first chunk
    fps = description.settings.get(FPS)
    fps = fps if isinstance(fps, float) and fps > 0 else WAN.fps

    def seconds(chunks: int) -> str:
        length = WAN.length(max(chunks * chunk_frames - missing_frames, 0)) / fps
        return f"{length:.1f}" if length < 10 else f"{length:.0f}"

    planned = description.planned_chunks
    begun = f"{seconds(count)} of " if count < planned else ""
    return f"{begun}{seconds(planned)} s"


def _words(description: Description) -> str:
    words = description.settings.get(FIRST_WORDS)
    return words if isinstance(words, str) and words.isprintable() else ""
