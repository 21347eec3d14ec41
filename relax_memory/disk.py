"""What disks refuse for a moment or do not offer at all, and what helps where they refuse for good.

Virus scanners and programs that copy a folder to a cloud hold a new file for a moment, in which it
can be neither replaced nor deleted. Knows no formats.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

try:
    import fcntl
except ImportError:  # Windows, which lets nobody replace a file that is open
    fcntl = None  # type: ignore[assignment]

PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)  # between the tries
HELD = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY, errno.EAGAIN)
LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)  # any other refusal of fsync: it is not offered

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def patiently(
    act: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """What `act` returns, tried a few times while another program may hold the file.

    Raises the last OSError, at once where waiting cannot help.
    """
    for pause_seconds in PAUSES_SECONDS:
        try:
            return act(*args, **kwargs)
        except OSError as error:
            if error.errno not in HELD or _forbidden(error.filename):
                raise
        time.sleep(pause_seconds)
    return act(*args, **kwargs)


def replace(source: Path, target: Path) -> None:
    """Give `source` the name `target`, whatever has it now; waits for who holds one of them."""
    patiently(os.replace, source, target)


def unlink(path: Path) -> None:
    """Delete a file that may be missing; waits for who holds it."""
    patiently(path.unlink, missing_ok=True)


def sync(handle: int) -> None:
    """Make what was written to an open file outlive a power cut, where its disk offers that."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in LOST:
            raise


def sync_folder(folder: Path) -> None:
    """Make what was created in `folder` outlive a power cut, where the system offers that."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # one that may be written to and not read
        return
    try:
        sync(handle)
    finally:
        os.close(handle)


def hold(file: BinaryIO) -> bool:
    """Keep an open file from others who ask, until it is closed or this process dies.

    False where another has it, or where its disk offers no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Whether nobody else has the file for the length of the block; see `hold`. Raises OSError."""
    if fcntl is None:
        yield True
        return
    with open(path, "rb+") as file:
        yield hold(file)


def advice(error: OSError, folder: Path) -> str:
    """What to do about a disk that refuses to write to `folder`, as an imperative."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"make room in {folder}"
        case errno.EFBIG:
            return f"make room in {folder} or put it on a disk that takes larger files"
        case errno.EROFS:
            return f"put {folder} on a disk that can be written to"
        case errno.EACCES | errno.EPERM:
            return f"allow writing in {folder} or close the program that holds its files"
        case errno.ENAMETOOLONG:
            return "use a shorter name"
        case _:
            return f"check the disk that has {folder}"


def _forbidden(name: str | bytes | int | None) -> bool:
    """Whether this process has no right to the file or to its folder, now or later."""
    if not isinstance(name, str | bytes):
        return False
    folder = os.path.dirname(name) or os.curdir
    return not os.access(folder, os.W_OK) or (os.path.exists(name) and not os.access(name, os.R_OK))
