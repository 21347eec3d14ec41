"""Where a video goes in the host's output folder, and what is written into it."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io

from ...disk import unlink
from ...film.fragments import PARTIAL, begins_with, whole_name
from ...film.mp4 import VideoWriter

logger = logging.getLogger(__name__)


def open_video(
    filename_prefix: str,
    *,
    fps: float,
    width: int,
    height: int,
    metadata: dict[str, object] | None,
) -> VideoWriter:
    """A writer for the next free number of `filename_prefix`, as the host's own savers count.

    The name is taken at once, so that two servers on one output folder never write the same file.

    Raises:
        ValueError: a name outside the output folder, or one that the disk refuses.
    """
    try:
        folder, name, counter = _place(filename_prefix, width, height)
        while True:
            path = folder / f"{name}_{counter:05}_.mp4"
            with suppress(FileExistsError):
                return VideoWriter(path, fps=fps, width=width, height=height, metadata=metadata)
            counter += 1
    except OSError as error:
        raise ValueError(
            f'filename_prefix is "{filename_prefix}", but {error.filename} cannot be created '
            f"({error.strerror}): use another name or make room for it."
        ) from error


def _place(filename_prefix: str, width: int, height: int) -> tuple[Path, str, int]:
    if not filename_prefix.isprintable():
        raise ValueError(f"filename_prefix is {filename_prefix!r}: use printable characters only.")
    output = folder_paths.get_output_directory()
    try:
        folder, name, counter, *_ = folder_paths.get_save_image_path(
            filename_prefix, output, width, height
        )
    except OSError:
        raise
    except Exception as error:  # the host has no narrower class for this
        raise ValueError(
            f'filename_prefix is "{filename_prefix}", which leads out of the output folder: use a '
            "name, or folders and a name, inside it."
        ) from error
    return Path(folder), name, counter


def workflow_metadata(hidden: io.HiddenHolder | None) -> dict[str, object]:
    """The workflow that made a video, unless the host was told to write none."""
    if args.disable_metadata or hidden is None:
        return {}
    prompt = {} if hidden.prompt is None else {"prompt": hidden.prompt}
    return {**(hidden.extra_pnginfo or {}), **prompt}


def saved_result(path: Path) -> dict[str, str]:
    """A file of the output folder as the host's front end wants it."""
    subfolder = Path(name_in_output(path)).parent
    return {
        "filename": path.name,
        "subfolder": subfolder.as_posix() if subfolder.name else "",
        "type": "output",
    }


def name_in_output(path: Path) -> str:
    """A file of the output folder by its path in there."""
    return path.resolve().relative_to(_output()).as_posix()


def path_in_output(name: object) -> Path | None:
    """The file that `name_in_output` named; None for a name that it would not give."""
    try:
        path = (_output() / name).resolve()
    except (TypeError, ValueError):  # no text, or characters that no name has
        return None
    return path if path.is_relative_to(_output()) and name_in_output(path) == name else None


def remove_superseded(partials: Iterable[Path], files: Sequence[Path]) -> None:
    """Delete the unfinished videos that one of the finished `files` has every picture of."""
    for partial in partials:
        if partial.name.endswith(PARTIAL) and any(begins_with(file, partial) for file in files):
            try:
                unlink(whole_name(partial))
                unlink(partial)
                logger.info("Deleted %s: the finished video has all of it.", partial)
            except OSError as error:  # a player may hold it open
                logger.warning("%s, which is not needed any more, stays: %s", partial, error)


def _output() -> Path:
    return Path(folder_paths.get_output_directory()).resolve()
