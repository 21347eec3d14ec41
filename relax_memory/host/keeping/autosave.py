"""Every finished chunk on disk before the next begins, and found again by the same request."""

import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_version import __version__ as HOST_VERSION
from torch import Tensor

from ...keepers import Finished
from ...plan import Plan
from ...saved.archive import clean_up, delete, ended_empty, open_rollout, saved_rollouts
from ...saved.chunk import SavedChunk, chunk_keys
from ...saved.rollout import Description, SavedRollout
from ..film.output import name_in_output, path_in_output
from ..gates.conditioning import skips_negative
from ..notice import note, tell
from ..options import options_of
from ..request import Request
from .fingerprint import fingerprint, host_fingerprint, model_fingerprints

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
CONDITIONINGS = ("positive", "negative")
VIDEOS = "unfinished videos"  # a setting that decides nothing

logger = logging.getLogger(__name__)


def archive_folder() -> Path:
    """Where rollouts are saved: in the host's output folder, which people give the room."""
    return Path(folder_paths.get_output_directory(), "relax_forcing")


class Autosave:
    """The saved rollout of one request, for as long as it is held.

    `saved_chunks` is how many of the request were there at the beginning. `left_behind` are the
    unfinished videos of earlier runs that are still there.
    """

    def __init__(self, rollout: SavedRollout, keys: list[str], left_behind: list[Path]) -> None:
        self._rollout = rollout
        self._keys = ["", *keys]
        self.saved_chunks = min(len(rollout.files), len(keys))
        self.left_behind = left_behind

    def chunks(self) -> Iterator[SavedChunk]:
        """The chunks of the request that are saved already."""
        return itertools.islice(self._rollout.chunks(), len(self._keys) - 1)

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
            key=key, follows=follows, latents=finished.latents, trace=trace, rows=finished.rows
        )
        try:
            chunk.write(self._rollout.folder)
        except OSError as error:
            raise OSError(
                f"Chunk {trace.index + 1} of {len(self._keys) - 1} could not be saved in "
                f"{self._rollout.folder} ({error.strerror}). The {trace.index} before it are safe: "
                "make room and queue again to continue, or turn autosave off."
            ) from error


@contextmanager
def autosave(
    request: Request,
    model: ModelPatcher,
    plan: Plan,
    sigmas: Tensor,
    growing: Sequence[Path] = (),
) -> Iterator[Autosave]:
    """Hold what is saved of a request, say what that is, and clean up once it is complete.

    Args:
        growing: unfinished videos of this run in the output folder; the next run is told of them.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder = archive_folder()
    made_from = _made_from(request, model, sigmas)
    keys = _keys(made_from, plan)
    with ExitStack() as held:
        try:
            # What was written of the first chunk is named by nothing but its rollout.
            rollout = held.enter_context(open_rollout(folder, keys, lambda: any(_begun(growing))))
            ended = ended_empty(folder, made_from)
            left_behind = _left_behind([rollout, *ended])
            videos = [name_in_output(video) for video in (*left_behind, *growing)]
            _describe(rollout, request, model, made_from, videos, planned_chunks=len(keys))
            for other in ended:
                delete(other)
        except OSError as error:
            raise OSError(
                f"autosave cannot write to {folder} ({error.strerror or error}): make room there "
                "or allow writing, or turn autosave off."
            ) from error
        _show(_beginning(rollout, folder, made_from, planned_chunks=len(keys)))
        try:
            yield Autosave(rollout, keys, left_behind)
        finally:
            saved_chunks = len(rollout.files)
            if saved_chunks >= len(keys):
                clean_up(folder)
            else:
                ending = _ending(saved_chunks, len(keys), _begun(growing))
                logger.info("%s.", ending)
                note(ending)


def _made_from(request: Request, model: ModelPatcher, sigmas: Tensor) -> dict[str, str]:
    """Fingerprints of all that decides what a chunk looks like; the length does not."""
    skipped = skips_negative(request.cfg, model.model_options)
    values = {
        "positive": request.positive,
        "negative": None if skipped else request.negative,
        "seed": request.seed,
        "width": request.width,
        "height": request.height,
        "cfg": request.cfg,
        "frames_per_chunk": request.frames_per_chunk,
        "batch_size": request.batch_size,
        "prefix": request.prefix,
        "steps, shift or sigmas": sigmas,
        "precision of latents": comfy.model_management.intermediate_dtype(),
    }
    made = model_fingerprints(model) | {"ComfyUI's attention and precision": host_fingerprint()}
    return made | {name: fingerprint(value) for name, value in values.items()}


def _keys(made_from: dict[str, str], plan: Plan) -> list[str]:
    """One for each chunk; the conditioning, now the same for all, is what may differ by chunk."""
    common = {name: made for name, made in made_from.items() if name not in CONDITIONINGS}
    conditioning = fingerprint([made_from[name] for name in CONDITIONINGS])
    return chunk_keys(fingerprint(common), [conditioning] * plan.chunk_count)


def _left_behind(rollouts: Iterable[SavedRollout]) -> list[Path]:
    """The unfinished videos that rollouts name, as far as they are in the output folder."""
    descriptions = [rollout.description for rollout in rollouts]
    lists = [d.settings.get(VIDEOS) for d in descriptions if d is not None]
    names = [name for names in lists if isinstance(names, list) for name in names]
    paths = dict.fromkeys(map(path_in_output, names))
    return [path for path in paths if path is not None and os.path.isfile(path)]


def _begun(videos: Iterable[Path]) -> list[Path]:
    """Those that show something."""
    return [video for video in videos if os.path.isfile(video) and os.path.getsize(video)]


def _describe(
    rollout: SavedRollout,
    request: Request,
    model: ModelPatcher,
    made_from: dict[str, str],
    videos: list[str],
    *,
    planned_chunks: int,
) -> None:
    """Write what the rollout is to become, unless that is what it says."""
    before = rollout.description
    settings = ("seed", "steps", "cfg", "frames_per_chunk", "batch_size")
    description = Description(
        planned_chunks=max(planned_chunks, before.planned_chunks if before else 0),
        width=request.width,
        height=request.height,
        settings={name: getattr(request, name) for name in settings}
        | {"memory": str(options_of(model).policy)}
        | ({VIDEOS: videos} if videos else {}),
        made_from=made_from,
        versions={"pack": _pack_version(), "ComfyUI": HOST_VERSION, "torch": torch.__version__},
    )
    if description != before:
        rollout.describe(description)


def _pack_version() -> str:
    with suppress(OSError, TypeError):
        return re.search(r'^version = "(.*)"', PYPROJECT.read_text("utf-8"), re.MULTILINE)[1]
    return "unknown"


def _beginning(
    rollout: SavedRollout, folder: Path, made_from: dict[str, str], *, planned_chunks: int
) -> str:
    """What a rollout begins with, in a sentence; empty where there is nothing to say."""
    saved_chunks = min(len(rollout.files), planned_chunks)
    if saved_chunks == planned_chunks:
        return f"All {planned_chunks} chunks are saved already ({rollout.name})"
    if saved_chunks:
        return f"Continues after {saved_chunks} of {planned_chunks} saved chunks ({rollout.name})"
    for other in saved_rollouts(folder):
        description = other.description
        if description is not None and not other.finished:
            made_then = description.made_from
            changed = [name for name, made in made_from.items() if made_then.get(name) != made]
            if not changed:
                return f"Starts anew: no chunk of the unfinished rollout {other.name} can be used"
            return (
                f"Starts anew: {', '.join(changed)} changed since the unfinished rollout "
                f"{other.name}"
            )
    return ""


def _ending(saved_chunks: int, planned_chunks: int, videos: list[Path]) -> str:
    """What a run leaves that was stopped, in a sentence."""
    text = f"{saved_chunks} of {planned_chunks} chunks are saved: queue again to continue"
    if videos:
        text += f". The video so far: {', '.join(map(name_in_output, videos))}"
    return text


def _show(text: str) -> None:
    """Say it in the log and on the node."""
    if text:
        logger.info("%s.", text)
        tell(text)
