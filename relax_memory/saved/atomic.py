"""Files that are there whole or not at all, whatever happens while they are written."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from ..disk import patiently, replace, sync, sync_folder, unlink

PART = "part"  # the one unfinished file of a folder; each folder has one writer


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that it outlives a power cut once this returns. Raises OSError."""
    part = path.with_name(PART)
    try:
        unlink(part)  # what a kill left, or a link, through which nothing is written
        with patiently(open, part, "xb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        replace(part, path)
    except BaseException:
        with suppress(OSError):  # the next file takes its place
            unlink(part)
        raise
    sync_folder(path.parent)


def write_checked(path: Path, name: str, content: object) -> None:
    """Write what JSON can hold, under a name, so that damage is told. Raises OSError."""
    told = {"checksum": _checksum(content), name: content}
    write_whole(path, json.dumps(told, indent=2).encode())


def read_checked(path: Path, name: str) -> object:
    """What `write_checked` wrote. Raises OSError, or ValueError for another file or damage."""
    try:
        told = json.loads(path.read_bytes())
        if told["checksum"] == _checksum(told[name]):
            return told[name]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not ours.") from error
    raise ValueError(f"{path} is damaged.")


def _checksum(content: object) -> str:
    return checksum(json.dumps(content, sort_keys=True).encode())


def checksum(data: bytes) -> str:
    """16 hexadecimal digits that tell damage; no protection against forgery."""
    return hashlib.sha256(data).hexdigest()[:16]
