"""All saved rollouts of one folder: list them, continue the one that fits, delete the old.

Several processes may use the folder at once. Each writes only to a rollout that it holds; what
another one holds is read and continued in a rollout of its own.
"""

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..disk import sync_folder
from .rollout import FORGOTTEN, LABEL_GAP, UNDER, SavedRollout

logger = logging.getLogger(__name__)


def saved_rollouts(folder: Path) -> list[SavedRollout]:
    """Rollouts with a chunk or more, newest first."""
    return [rollout for rollout in _rollouts(folder) if rollout.chunk_count]


def with_takes(rollouts: Sequence[SavedRollout]) -> list[tuple[int, SavedRollout]]:
    """The same with takes under what they are taken from, each with how deep it stands.

    A rollout comes as early as the first of its takes; what is not among them is nobody's parent.
    """
    found = {rollout.name: rollout for rollout in rollouts}
    parents = {rollout.name: found.get(rollout.taken_from) for rollout in rollouts}
    takes: dict[str, list[SavedRollout]] = {name: [] for name in found}
    for rollout in rollouts:
        if parent := parents[rollout.name]:
            takes[parent.name].append(rollout)
    listed: dict[str, tuple[int, SavedRollout]] = {}

    def add(rollout: SavedRollout, depth: int) -> None:
        if rollout.name not in listed:
            listed[rollout.name] = depth, rollout
            for take in takes[rollout.name]:
                add(take, depth + 1)

    for rollout in rollouts:
        first, climbed = rollout, {rollout.name}  # renamed folders may stand in a circle
        while (parent := parents[first.name]) and parent.name not in climbed:
            first = parent
            climbed.add(first.name)
        add(first, 0)
    return list(listed.values())


def find_rollout(folder: Path, label: str) -> SavedRollout:
    """The saved rollout that a label names, even if it has grown since it had that label.

    Raises:
        ValueError: there is none; a label is never used as a path.
    """
    told = tuple(text + LABEL_GAP for text in (label, label.lstrip(UNDER)))
    for rollout in _rollouts(folder):
        named = any(text.startswith(rollout.name + LABEL_GAP) for text in told)
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


def clean_up(folder: Path, *, most_bytes: int) -> None:
    """Delete what is forgotten, and then finished rollouts, oldest first, down to `most_bytes`.

    The newest finished one stays however large. What is kept or unfinished, is in use, or has no
    description that can be read, stays and counts nothing, unless it is forgotten.
    """
    rollouts = sorted(_rollouts(folder), key=lambda r: r.changed_seconds, reverse=True)
    marked = [(rollout, rollout.mark) for rollout in rollouts]
    finished = [rollout for rollout, mark in marked if not mark and rollout.finished]
    forgotten = [rollout for rollout, mark in marked if mark == FORGOTTEN]
    together = 0
    for rollout in finished + forgotten:
        together += rollout.bytes
        if together > most_bytes and rollout not in finished[:1]:
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
