"""Every finished chunk on disk before the next begins, and found again by the same request."""

import errno
import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import folder_paths
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from comfyui_version import __version__ as HOST_VERSION

from ...disk import advice
from ...film.fragments import close
from ...grid import WAN
from ...keepers import Finished
from ...passes import Schedule
from ...saved.archive import clean_up, delete, ended_empty, open_rollout, saved_rollouts
from ...saved.chunk import SavedChunk
from ...saved.graph import write_graph
from ...saved.inputs import write_inputs
from ...saved.rollout import (
    FIRST_SAMPLE,
    FIRST_WORDS,
    FORGOTTEN,
    FPS,
    TAKEN_FROM,
    Description,
    SavedRollout,
)
from ...storyboard import Storyboard
from ..film.output import name_in_output, path_in_output
from ..notice import note, tell
from ..options import remembered
from ..request import Request
from .bound import most_bytes
from .inputs import computed_inputs, with_saved_inputs
from .made_from import HOW, keys_of, made_from
from .sentences import beginning, continuing, ending

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
VIDEOS = "unfinished videos"  # a setting that decides nothing

logger = logging.getLogger(__name__)


def archive_folder() -> Path:
    """Where rollouts are saved: in the host's output folder, which people give the room."""
    return Path(folder_paths.get_output_directory(), "relax_forcing")


class Autosave:
    """The saved rollout of one request, for as long as it is held.

    `request` may have inputs of the rollout in the place of those that were given, and `graph` is
    what makes it. `saved_chunks` is how many of the request were there at the beginning.
    `left_behind` are the unfinished videos of earlier runs that are still there.
    """

    def __init__(
        self,
        request: Request,
        made: dict[str, str],
        rollout: SavedRollout,
        keys: list[str],
        left_behind: list[Path],
        graph: Mapping[str, object],
    ) -> None:
        self.request = request
        self._graph = graph
        self._made = made
        self._rollout = rollout
        self._keys = ["", *keys]
        self.saved_chunks = min(len(rollout.files), len(keys))
        self.left_behind = left_behind

    def chunks(self) -> Iterator[SavedChunk]:
        """The chunks of the request that are saved already."""
        return itertools.islice(self._rollout.chunks(), len(self._keys) - 1)

    def lacks_of(self, rollout: SavedRollout) -> bool:
        """Whether the first chunk that is not there seems to be in this rollout."""
        following = self._keys[self.saved_chunks + 1 :]
        return bool(following) and rollout.may_have(self.saved_chunks, following[0])

    def is_left_by(self, rollout: SavedRollout) -> bool:
        """Whether this rollout begins with the chunks that are there, and goes on with another."""
        last, *following = self._keys[self.saved_chunks :]
        return (
            bool(following)
            and rollout.chunk_count > self.saved_chunks
            and rollout.may_have(self.saved_chunks - 1, last)
            and not rollout.may_have(self.saved_chunks, following[0])
        )

    def follow(self, request: Request, storyboard: Storyboard) -> None:
        """Go on with a request that has other words in chunks to come, and keep those too."""
        keys = keys_of(self._made, request, storyboard)
        done = self._rollout.chunk_count
        assert keys[:done] == self._keys[1 : done + 1], "words of finished chunks do not change"
        self.request = request
        self._keys[1 : len(keys) + 1] = keys
        _keep_inputs(self._rollout, request, self._made)
        _keep_graph(self._rollout, self._graph)

    def keep(self, finished: Finished) -> None:
        """Put a finished chunk on disk, unless it came from there.

        Raises:
            OSError: it cannot be written; those before it are safe.
        """
        trace = finished.trace
        if trace.index < self.saved_chunks:
            return
        follows, key = self._keys[trace.index : trace.index + 2]
        chunk = SavedChunk(
            key=key,
            follows=follows,
            latents=finished.latents,
            trace=trace,
            rows=finished.rows,
            noisy=finished.noisy,
        )
        try:
            chunk.write(self._rollout.folder)
        except OSError as error:
            there = min(self._rollout.chunk_count, trace.index)
            before = f"The {there} before it are safe: " if there else ""
            if there < trace.index:
                before = f"Of the {trace.index} before it {there or 'none'} are there any more: "
            helps = "make room" if error.errno in FULL else advice(error, self._rollout.folder)
            if not before:
                helps = helps[:1].upper() + helps[1:]
            raise OSError(
                f"Chunk {trace.index + 1} of {len(self._keys) - 1} could not be saved in "
                f"{self._rollout.folder} ({error.strerror}). {before}{helps} and queue again"
                f"{' to continue' if there else ''}, or turn autosave off."
            ) from error


@contextmanager
def autosave(
    request: Request,
    model: ModelPatcher,
    storyboard: Storyboard,
    schedule: Schedule,
    growing: Sequence[Path] = (),
    graph: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Autosave]:
    """Hold what is saved of a request, say what that is, and clean up once it is complete.

    Args:
        growing: unfinished videos of this run in the output folder; the next run is told of them.
        graph: prompt and workflow as files carry them, with the words that the request has.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder = archive_folder()
    saved = [(rollout, rollout.description) for rollout in saved_rollouts(folder)]
    given = made_from(request, model, schedule)
    request, made, reuse = with_saved_inputs(request, given, saved)
    keys = keys_of(made, request, storyboard)
    with ExitStack() as held:
        try:
            # What was written of the first chunk is named by nothing but its rollout.
            rollout = held.enter_context(open_rollout(folder, keys, lambda: any(_begun(growing))))
            before = rollout.description
            if rollout.mark == FORGOTTEN:
                rollout.mark_as("")
            ended = ended_empty(folder, made)
            left_behind = _left_behind([rollout, *ended])
            videos = [name_in_output(video) for video in (*left_behind, *growing)]
            _describe(rollout, request, model, made, videos, graph, planned_chunks=len(keys))
            for other in ended:
                delete(other)
        except OSError as error:
            raise OSError(
                f"autosave cannot write to {folder} ({error.strerror or error}): "
                f"{advice(error, folder)}, or turn autosave off."
            ) from error
        saving = Autosave(request, made, rollout, keys, left_behind, graph)
        if saving.saved_chunks:
            counts = saving.saved_chunks, len(keys)
            spoilt = [
                other
                for other, then in saved
                if then and then.made_from == made and saving.lacks_of(other)
            ]
            anew = None
            if before is None and any(saving.is_left_by(other) for other, _ in saved):
                first = storyboard.chunk(saving.saved_chunks)
                anew = request.grid.length(first.film_frame) / request.fps
            text = continuing(rollout, before, reuse, spoilt, counts=counts, anew_seconds=anew)
            _say(text, note if reuse or anew else tell)
        else:
            _say(beginning(made, request.prefix, saved), note)
        try:
            yield saving
        finally:
            saved_chunks = len(rollout.files)
            if saved_chunks >= len(keys):
                clean_up(folder, most_bytes=most_bytes())
            else:
                _say(ending(saved_chunks, len(keys), _begun(growing)), note)


def _left_behind(rollouts: Iterable[SavedRollout]) -> list[Path]:
    """The unfinished videos that rollouts name, as far as they are in the output folder."""
    descriptions = [rollout.description for rollout in rollouts]
    lists = [d.settings.get(VIDEOS) for d in descriptions if d is not None]
    names = [name for names in lists if isinstance(names, list) for name in names]
    paths = dict.fromkeys(map(path_in_output, names))
    return [path for path in paths if path is not None and os.path.isfile(path)]


def close_left_behind(rollout: SavedRollout) -> None:
    """Let any player show the unfinished videos that a killed run of this rollout has left.

    They carry the graph of the rollout, which may have had later words than the last picture.
    """
    graph = {} if args.disable_metadata else rollout.graph
    tags = {name: json.dumps(told) for name, told in graph.items()}
    for video in _left_behind([rollout]):
        close(video, tags=tags or None)


def _begun(videos: Iterable[Path]) -> list[Path]:
    """Those that show something."""
    return [video for video in videos if os.path.isfile(video) and os.path.getsize(video)]


def _describe(
    rollout: SavedRollout,
    request: Request,
    model: ModelPatcher,
    made: dict[str, str],
    videos: list[str],
    graph: Mapping[str, object],
    *,
    planned_chunks: int,
) -> None:
    """Write what the rollout is to become, and by which graph, unless that is what it says."""
    before = rollout.description
    settings = ("seed", "steps", "cfg", "frames_per_chunk", "prefix_frames", "batch_size")
    words = request.words or (before and before.settings.get(FIRST_WORDS))
    description = Description(
        planned_chunks=max(planned_chunks, before.planned_chunks if before else 0),
        width=request.width,
        height=request.height,
        settings={name: getattr(request, name) for name in settings}
        | {"memory": str(remembered(model).policy)}
        | ({FIRST_WORDS: words} if words else {})
        | ({FIRST_SAMPLE: request.first_sample} if request.first_sample else {})
        | ({FPS: request.fps} if request.fps != WAN.fps else {})
        | ({TAKEN_FROM: request.taken_from} if request.taken_from else {})
        | ({VIDEOS: videos} if videos else {}),
        made_from=made,
        versions={
            "pack": _pack_version(),
            "ComfyUI": HOST_VERSION,
            "torch": torch.__version__,
            "autosave": HOW,
        },
    )
    _keep_inputs(rollout, request, made)
    if planned_chunks == description.planned_chunks or planned_chunks > rollout.chunk_count:
        _keep_graph(rollout, graph)  # another one makes no more than a beginning that is there
    if description != before:
        rollout.describe(description)


def _keep_inputs(rollout: SavedRollout, request: Request, made: dict[str, str]) -> None:
    try:
        write_inputs(rollout.folder, computed_inputs(request, made))
    except OSError as error:  # chunks are smaller and may still find room
        logger.warning("The inputs of %s could not be kept: %s", rollout.name, error)


def _keep_graph(rollout: SavedRollout, graph: Mapping[str, object]) -> None:
    try:
        write_graph(rollout.folder, graph)
    except OSError as error:
        logger.warning("The graph of %s could not be kept: %s", rollout.name, error)


def _pack_version() -> str:
    with suppress(OSError, TypeError):
        found = re.search(r'^version = "(.*)"', PYPROJECT.read_text("utf-8"), re.MULTILINE)
        return found[1] if found else "unknown"
    return "unknown"


def _say(text: str, show: Callable[[str], None]) -> None:
    """Say it in the log and on the node."""
    if text:
        logger.info("%s.", text)
        show(text)
