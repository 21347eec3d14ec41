"""Videos in fragments: compared, and made ordinary MP4 files without encoding again.

A video that grows ends wherever its last fragment does, which few players understand: they show a
wrong length or the first fragment alone. Knows neither latents nor how the fragments were made.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import av

from ..disk import held, replace, sync, unlink
from .chapters import Chapter

logger = logging.getLogger(__name__)

PARTIAL = ".partial.mp4"
TAGS = "use_metadata_tags"
TAGS_BOX = b"uuid" + b"RelaxForcingTags"  # kind and name of a box that players pass over
CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")  # not ours


def whole_name(partial: Path) -> Path:
    """What a video is called while its fragments are put together."""
    return partial.with_name(partial.name.removesuffix(PARTIAL) + ".whole.mp4")


def changed_tags(tags: Mapping[str, str]) -> bytes:
    """What is written between two fragments of a video where its tags change."""
    told = TAGS_BOX + json.dumps(tags).encode()
    return (len(told) + 4).to_bytes(4, "big") + told


def put_together(
    partial: Path,
    target: Path,
    chapters: Sequence[Chapter] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write the whole fragments of a video as an ordinary MP4 that starts fast.

    Where no tags are given, they are those that it had last. Raises OSError or av.FFmpegError.
    """
    options = {"movflags": f"faststart+{TAGS}"}
    with (
        _whole_fragments(partial) as source,
        av.open(str(target), "w", format="mp4", options=options) as container,
    ):
        if tags is None:
            tags = _last_tags(partial) or _own(source.metadata)
        container.metadata.update(tags)
        container.set_chapters(list(chapters))
        fragments = source.streams.video[0]
        stream = container.add_stream_from_template(fragments)
        for packet in source.demux(fragments):
            if packet.dts is not None:  # the last, empty one
                packet.stream = stream
                container.mux(packet)
    with open(target, "rb+") as file:
        sync(file.fileno())


def close(
    partial: Path, chapters: Sequence[Chapter] = (), tags: Mapping[str, str] | None = None
) -> bool:
    """Make an unfinished video an ordinary MP4 under the same name, so that any player shows it.

    Nothing is done to one that is closed already, is being written or is not ours. Returns whether
    it was closed; what prevented it is in the log.
    """
    whole = whole_name(partial)
    try:
        with held(partial) as alone:
            if not alone or not _closable(partial):
                return False
            try:
                put_together(partial, whole, chapters, tags)
                replace(whole, partial)
            finally:
                with suppress(OSError):
                    unlink(whole)
    except (OSError, av.FFmpegError) as error:
        logger.warning("%s stays in fragments: %s", partial, error)
        return False
    logger.info("Closed %s, an unfinished video.", partial)
    return True


def begins_with(video: Path, part: Path) -> bool:
    """Whether `video` begins with all that `part` shows, as encoded: the same packets in order.

    The last packet of `part` may be cut short. False when `part` shows nothing, and when either
    cannot be read.
    """
    try:
        with av.open(str(video)) as whole, av.open(str(part)) as beginning:
            packets = _packets(whole)
            shown = [next(packets, b"").startswith(packet) for packet in _packets(beginning)]
            return bool(shown) and all(shown)
    except (OSError, ValueError, IndexError, av.FFmpegError):
        return False


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Type and end of each top-level box of an MP4, as far as its boxes are whole."""
    size = os.fstat(file.fileno()).st_size
    start = 0
    while start + 8 <= size:
        file.seek(start)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        start += length
        if length < 8 or start > size:
            return
        yield header[4:8], start


class _Beginning:
    """The first bytes of an open file, as a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self.tell = file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset, whence = self._size + offset, os.SEEK_SET
        return self._file.seek(offset, whence)


@contextmanager
def _whole_fragments(partial: Path) -> Iterator[av.container.InputContainer]:
    """The video without a last fragment that was cut short."""
    with (
        open(partial, "rb") as file,
        av.open(_Beginning(file, _end(partial)), "r", format="mp4", buffer_size=2**20) as container,
    ):
        yield container


def _own(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: tag for name, tag in metadata.items() if name not in CONTAINER_TAGS}


def _last_tags(partial: Path) -> dict[str, str]:
    """Tags that came between its whole fragments; none where they never changed."""
    tags: dict[str, str] = {}
    with open(partial, "rb") as file:
        start = 0
        for _, end in list(boxes(file)):
            file.seek(start + 4)
            if file.read(len(TAGS_BOX)) == TAGS_BOX:
                with suppress(ValueError, AttributeError):  # not ours after all
                    told = json.loads(file.read(end - file.tell()))
                    tags = {name: str(tag) for name, tag in told.items()}
            start = end
    return tags


def _end(partial: Path) -> int:
    """Where the last whole fragment ends; 0 where there is none."""
    with open(partial, "rb") as file:
        found = list(boxes(file))
    if b"moof" not in (kind for kind, _ in found):
        return 0
    return max((end for kind, end in found if kind == b"mdat"), default=0)


def _closable(partial: Path) -> bool:
    """Whether it is a video in fragments as we write them: pictures and nothing else."""
    if not partial.name.endswith(PARTIAL) or not _end(partial):
        return False
    with _whole_fragments(partial) as container:
        return [stream.type for stream in container.streams] == ["video"]


def _packets(container: av.container.InputContainer) -> Iterator[bytes]:
    return (bytes(packet) for packet in container.demux(video=0) if packet.size)
