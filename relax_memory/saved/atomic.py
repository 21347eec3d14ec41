"""Files that are there whole or not at all, whatever happens while they are written."""

import hashlib
from contextlib import suppress
from pathlib import Path

from ..disk import patiently, replace, sync, sync_folder, unlink

PART = "part"  # the one unfinished file of a folder; each folder has one writer


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that it outlives a power cut once this returns. Raises OSError."""
    part = path.with_name(PART)
    try:
        with patiently(open, part, "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        replace(part, path)
    except BaseException:
        with suppress(OSError):  # the next file takes its place
            unlink(part)
        raise
    sync_folder(path.parent)


def checksum(data: bytes) -> str:
    """16 hexadecimal digits that tell damage; no protection against forgery."""
    return hashlib.sha256(data).hexdigest()[:16]
