"""Finished videos as a node hands them on: they say so when their file is gone."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from comfy_api.latest import InputImpl, io
from comfy_execution.utils import get_executing_context

from ...film.fragments import PARTIAL
from ..notice import note
from .output import name_in_output


class MadeVideo(InputImpl.VideoFromFile):  # type: ignore[misc, valid-type]
    """A video in a file of ours.

    Whatever is asked of it raises FileNotFoundError with a sentence once the file is gone.
    """

    def as_trimmed(self, *args: object, **kwargs: object) -> "MadeVideo | None":
        trimmed = super().as_trimmed(*args, **kwargs)
        if trimmed is not None:
            trimmed.__class__ = MadeVideo
        return trimmed


def _of_a_file(read: Callable) -> Callable:
    """What reads a video, after a look whether there is one."""

    @functools.wraps(read)
    def reading(self: MadeVideo, *args: object, **kwargs: object) -> object:
        path = Path(str(InputImpl.VideoFromFile.get_stream_source(self)))
        if not path.exists():
            raise FileNotFoundError(
                f"The video {path} was moved or deleted after it was made: put it back, or queue "
                "again, and it is made anew."
            )
        return read(self, *args, **kwargs)

    return reading


for _name, _read in (vars(InputImpl.VideoFromFile) | vars(MadeVideo)).items():
    if callable(_read) and not _name.startswith("_"):
        setattr(MadeVideo, _name, _of_a_file(_read))


@dataclass(frozen=True)
class _Made:
    """What a node has made last, and in which run: each file with its size and time, and how often
    it was remade.
    """

    run: str
    files: tuple[tuple[Path, tuple[int, int] | None], ...]
    remade: int


_made: dict[str, _Made] = {}  # by node id; the host keeps the videos of nodes that do not run again


def made_videos(files: Sequence[Path], hidden: io.HiddenHolder | None) -> list[MadeVideo]:
    """The videos in finished files; what is to be said of them is said on the node."""
    if node_id := hidden and hidden.unique_id:
        where = get_executing_context()
        made = _Made(
            where.prompt_id if where else "",
            tuple((file, _state(file)) for file in files),
            times_remade(hidden),
        )
        before = _made.get(node_id)
        if before and before.run == made.run != "":  # given a list, it is executed for each of it
            made = replace(before, files=(*before.files, *made.files))
        _made[node_id] = made
    for file in files:
        if file.name.endswith(PARTIAL):
            note(
                "The finished video keeps its name "
                f"{name_in_output(file)}, as another program holds it"
            )
    return [MadeVideo(str(file)) for file in files]


def times_remade(hidden: io.HiddenHolder | None) -> int:
    """Changes once a file that the node made is gone or another, so that the host runs it again."""
    made = _made.get(hidden.unique_id) if hidden else None
    if made is None:
        return 0
    return made.remade + any(_state(file) != state for file, state in made.files)


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
