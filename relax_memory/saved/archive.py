"""All saved rollouts of one folder: list them, continue the one that fits, delete the old.

Several processes may use the folder at once. Each writes only to a rollout that it holds; what
another one holds is read and continued in a rollout of its own.
"""

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..disk import sync_folder
from .rollout import LABEL_GAP, SavedRollout

FINISHED_BYTES = 4 * 2**30
UNFINISHED_SECONDS = 30 * 24 * 3600

logger = logging.getLogger(__name__)


def saved_rollouts(folder: Path) -> list[SavedRollout]:
    """Rollouts with a chunk or more, newest first."""
    return [rollout for rollout in _rollouts(folder) if rollout.chunk_count]


def find_rollout(folder: Path, label: str) -> SavedRollout:
    """The saved rollout that a label names, even if it has grown since it had that label.

    Raises:
        ValueError: there is none; a label is never used as a path.
    """
    for rollout in _rollouts(folder):
        named = label == rollout.name or label.startswith(rollout.name + LABEL_GAP)
        if named and rollout.chunk_count:
            return rollout
    saved = saved_rollouts(folder)
    if not saved:
        raise ValueError(f"No rollout is saved in {folder}: autosave of a sampler puts them there.")
    raise ValueError(
        f'rollout is "{label}", but none of that name is saved in {folder}: choose one of the list '
        f'again, such as "{saved[0].label}".'
    )


@contextmanager
def open_rollout(
    folder: Path, keys: list[str], keep_empty: Callable[[], bool] = lambda: False
) -> Iterator[SavedRollout]:
    """Hold a rollout that begins with the chunks of these keys, as many as are saved.

    One that also has other chunks, is damaged or is held by another process stays as it is: the
    chunks that fit are copied to a new rollout. Raises OSError.

    Args:
        keep_empty: asked at the end whether a new rollout stays that has got no chunk.
    """
    best: SavedRollout | None = None
    files: tuple[Path, ...] = ()
    count = 0
    for rollout in _rollouts(folder):
        if count == len(keys):
            break
        if not rollout.may_have(count, keys[count]):
            continue
        now = rollout.files
        if (matching := rollout.matching(keys)) > count:
            best, count, files = rollout, matching, now
    with ExitStack() as held:
        if best is None or count < min(len(files), len(keys)) or not _hold(best, files, held):
            source, best = best, _begin(folder)
            held.callback(_delete_unless, keep_empty, best)
            held.enter_context(best.hold())
            if source is not None:
                _copy(source, best, count)
        yield best


def ended_empty(folder: Path, made_from: dict[str, str]) -> list[SavedRollout]:
    """Rollouts made from the same that ended before their first chunk; nobody continues them."""
    return [
        rollout
        for rollout in _rollouts(folder)
        if not rollout.chunk_count
        and (description := rollout.description)
        and description.made_from == made_from
        and not _is_held(rollout)
        and not rollout.files  # asked last: whoever held it may have saved one
    ]


def delete(rollout: SavedRollout) -> None:
    """Delete it, unless it is in use, and say so in the log."""
    try:
        if rollout.delete():
            logger.info("Deleted the saved rollout %s.", rollout.folder)
    except OSError as error:
        logger.warning("The saved rollout %s could not be deleted: %s", rollout.folder, error)


def clean_up(
    folder: Path,
    *,
    finished_bytes: int = FINISHED_BYTES,
    unfinished_seconds: float = UNFINISHED_SECONDS,
) -> None:
    """Delete finished rollouts once newer ones take `finished_bytes`, and others by their age.

    What is in use or has no description that can be read stays.
    """
    newer_bytes = 0
    for rollout in sorted(_rollouts(folder), key=lambda r: r.changed_seconds, reverse=True):
        description = rollout.description
        if description is None:
            continue
        if rollout.chunk_count >= description.planned_chunks:
            old = newer_bytes >= finished_bytes
            newer_bytes += 0 if old else rollout.bytes
        else:
            old = time.time() - rollout.changed_seconds > unfinished_seconds
        if old:
            delete(rollout)


def _rollouts(folder: Path) -> list[SavedRollout]:
    """All, newest first."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [SavedRollout(folder / name) for name in sorted(names, reverse=True)]


def _hold(rollout: SavedRollout, files: tuple[Path, ...], held: ExitStack) -> bool:
    """Hold it, unless another process does or has changed its files."""
    try:
        held.enter_context(rollout.hold())
    except OSError:
        return False
    return rollout.files == files


def _is_held(rollout: SavedRollout) -> bool:
    try:
        with rollout.hold():
            return False
    except OSError:
        return True


def _begin(folder: Path) -> SavedRollout:
    """A new empty rollout, named by the time."""
    folder.mkdir(parents=True, exist_ok=True)
    now = time.strftime("%Y-%m-%d %H.%M.%S")
    for name in itertools.chain([now], (f"{now} ({i})" for i in itertools.count(2))):
        with suppress(FileExistsError):
            (folder / name).mkdir()
            sync_folder(folder)
            break
    return SavedRollout(folder / name)


def _copy(source: SavedRollout, target: SavedRollout, count: int) -> None:
    with suppress(ValueError):  # someone deletes it at this moment: what is copied fits
        for chunk in itertools.islice(source.chunks(), count):
            chunk.write(target.folder)


def _delete_unless(keep_empty: Callable[[], bool], rollout: SavedRollout) -> None:
    """Delete a rollout that has got no chunk, unless it is to stay all the same."""
    if not keep_empty() and not rollout.files:
        delete(rollout)
