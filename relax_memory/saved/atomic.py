"""Files that are there whole or not at all, whatever happens while they are written."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

PART = "part"  # the one unfinished file of a folder; each folder has one writer


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that it outlives a power cut once this returns. Raises OSError."""
    part = path.with_name(PART)
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was created in `folder` outlive a power cut, where the system offers that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # some network file systems refuse
        os.fsync(handle)
    os.close(handle)


def checksum(data: bytes) -> str:
    """16 hexadecimal digits that tell damage; no protection against forgery."""
    return hashlib.sha256(data).hexdigest()[:16]
