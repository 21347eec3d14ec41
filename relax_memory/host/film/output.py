"""Where a video goes in the host's output folder, and what is written into it."""

import errno
import logging
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io

from ...disk import advice, unlink
from ...film.fragments import PARTIAL, begins_with, close, whole_name
from ...film.mp4 import VideoWriter
from .naming import fill_in

LONGEST_ENDING = "_00001_" + PARTIAL
UNUSABLE = '<>:"|?*' if os.name == "nt" else ""  # a colon would write where nobody looks
DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
)

logger = logging.getLogger(__name__)


def open_video(
    filename_prefix: str,
    *,
    fps: float,
    width: int,
    height: int,
    metadata: dict[str, object] | None,
    chapters: Sequence[tuple[float, str]] = (),
) -> VideoWriter:
    """A writer for the next free number of `filename_prefix`, as the host's own savers count.

    The name is taken at once, so that two servers on one output folder never write the same file.

    Raises:
        ValueError: a name outside the output folder, or one that the disk refuses.
    """
    check_name(filename_prefix)
    try:
        folder, name, counter = _place(filename_prefix, width, height)
        close_left(folder, name)
        while True:
            path = folder / f"{name}_{counter:05}_.mp4"
            with suppress(FileExistsError):
                return VideoWriter(
                    path,
                    fps=fps,
                    width=width,
                    height=height,
                    metadata=metadata,
                    chapters=chapters,
                )
            counter += 1
    except OSError as error:
        raise _refusal(filename_prefix, error) from error


def check_name(filename_prefix: str) -> None:
    """Raise ValueError for a name that no video can have, as far as that can be told beforehand.

    Nothing is created.
    """
    if not filename_prefix.isprintable():
        raise ValueError(f"filename_prefix is {filename_prefix!r}: use printable characters only.")
    if unusable := sorted(set(UNUSABLE) & set(filename_prefix)):
        raise ValueError(
            f'filename_prefix is "{filename_prefix}", but this system allows no {unusable[0]} in '
            "names: leave it out."
        )
    output = Path(folder_paths.get_output_directory())
    parent, name = os.path.split(os.path.normpath(filename_prefix))
    folder = Path(os.path.normpath(output / parent))
    _check_inside(filename_prefix, folder, output)
    try:
        _check_creatable(folder, name + LONGEST_ENDING)
    except OSError as error:
        raise _refusal(filename_prefix, error) from error


def check_known_name(filename_prefix: str | None, hidden: io.HiddenHolder | None) -> None:
    """Raise ValueError for a name that no video can have, unless it is not known yet."""
    if filename_prefix is not None:
        check_name(fill_in(filename_prefix, hidden))


def _check_inside(filename_prefix: str, folder: Path, output: Path) -> None:
    """Hosts from 0.28 refuse a folder that is a link to outside, earlier ones do not."""
    if folder.resolve().is_relative_to(output.resolve()):
        return
    inside = folder.relative_to(output).parts if folder.is_relative_to(output) else ()
    for link in (output.joinpath(*inside[:end]) for end in range(1, len(inside) + 1)):
        if link.resolve() != link.parent.resolve() / link.name:
            raise ValueError(
                f'filename_prefix is "{filename_prefix}", but {link} is a link to '
                f"{link.resolve()}, outside of the output folder, where the host lets no node "
                "write: use another folder, or start ComfyUI with that place as "
                "--output-directory."
            )
    raise ValueError(
        f'filename_prefix is "{filename_prefix}", which leads out of the output folder: use a '
        "name, or folders and a name, inside it."
    )


def _check_creatable(folder: Path, name: str) -> None:
    """Raise the OSError that creating this file would raise, as far as can be told."""
    there = folder
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise OSError(errno.ENOTDIR, f"{there} is a file", str(folder / name))
    most = os.pathconf(there, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    for part in (*folder.relative_to(there).parts, name):
        if len(os.fsencode(part) if os.name == "posix" else part) > most:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(folder / name))
    if not os.access(there, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, f"{there} is read-only", str(folder / name))


def _refusal(filename_prefix: str, error: OSError) -> ValueError:
    folder = Path(error.filename or folder_paths.get_output_directory()).parent
    helps = advice(error, folder) if error.errno in DISK_ERRORS else "use another name"
    return ValueError(
        f'filename_prefix is "{filename_prefix}", but {error.filename} cannot be created '
        f"({error.strerror}): {helps}."
    )


def _place(filename_prefix: str, width: int, height: int) -> tuple[Path, str, int]:
    output = folder_paths.get_output_directory()
    folder, name, counter, *_ = folder_paths.get_save_image_path(
        filename_prefix, output, width, height
    )
    return Path(folder), name, counter


def close_left(folder: Path, name: str) -> None:
    """Close the videos of this name that runs left unfinished when they were killed."""
    numbered = re.compile(re.escape(name) + r"_\d{5,}_" + re.escape(PARTIAL))
    for path in folder.iterdir():
        if numbered.fullmatch(path.name):
            close(path)


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
    if not isinstance(name, str):
        return None
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
