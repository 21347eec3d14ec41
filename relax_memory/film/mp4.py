"""An H.264 MP4 that can be played at any moment while it is written.

What was appended is on disk as a fragment of its own, so a killed process leaves a video of it, and
`finish` turns the fragments into an ordinary MP4 without encoding again. Knows no latents, no
threads and no audio.
"""

import io
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from ..disk import advice, hold, patiently, replace, sync, unlink
from .chapters import Chapter, chapters_of
from .fragments import PARTIAL, TAGS, changed_tags, close, put_together, whole_name

logger = logging.getLogger(__name__)

# No B-frames: without reordering a fragment begins where the one before it ended. No macroblock
# tree: with it x264 encoded the same pictures otherwise now and then, 11 times of 590. The price
# is a larger file: 1.8 times for the demo, whose ground stands still.
ENCODER = {"crf": "18", "bf": "0", "mbtree": "0"}
# BT.601 is what everything reads that ignores the tag, the host's own video nodes among it.
BT601, BT709, LIMITED = 6, 1, 1
FRAGMENT = "frag_custom+empty_moov+default_base_moof+frag_discont+skip_trailer"


def check_fps(fps: float) -> None:
    """Raise ValueError for pictures a second that no file can say."""
    if not 0.001 <= fps <= 1000:
        raise ValueError(f"fps is {fps}: use 0.001 to 1000.")


class VideoWriter:
    """Writes `path` frame by frame under the name `<stem>.partial.mp4`, and renames it at the end.

    Args:
        path: where the finished video goes; its folder must exist.
        fps: video frames per second, kept to a thousandth.
        width, height: pixels, both even.
        metadata: written into the container as JSON, one tag a key; once more, as it is then, where
            it has changed between two fragments, and when the file is closed.
        chapters: the second at which each begins, and its title; in the file once it is closed.
            Others may be set until then.

    Raises:
        ValueError: an odd size, or a frame rate out of range.
        FileExistsError: a video, finished or not, has this name already.
        OSError: the file cannot be created.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: float,
        width: int,
        height: int,
        metadata: Mapping[str, object] | None = None,
        chapters: Sequence[tuple[float, str]] = (),
    ) -> None:
        if width % 2 or height % 2:
            raise ValueError(f"The video is {width}x{height}: H.264 needs even numbers.")
        check_fps(fps)
        self._rate = Fraction(round(fps * 1000), 1000)
        self._width, self._height = width, height
        self._metadata = metadata or {}
        self.chapters = chapters
        self._tags_there: dict[str, str] | None = None
        self._fragments = 0
        self._finished = False
        self._refused = False
        self.frames = 0
        self.path = path
        self.partial = path.with_suffix(PARTIAL)
        self._file = patiently(open, self.partial, "xb", buffering=0)  # closed by every ending
        hold(self._file)  # or a run that starts meanwhile would take it for one that was killed
        if path.exists():
            self.abandon()
            raise FileExistsError(f"{path} exists already.")

    def append(self, images: Tensor) -> None:
        """Encode `images`, uint8 RGB `[F, H, W, 3]` on the CPU, and put them on disk as a fragment.

        Raises:
            ValueError: pictures of another size.
            RuntimeError: the disk would not take the fragment. What was appended before plays from
                `partial`, and nothing more can be appended.
        """
        if self._file.closed:
            raise RuntimeError(f"{self.partial} is closed: nothing more can be appended.")
        if not len(images):
            return
        try:
            self._write(self._fragment(images))
        except BaseException:  # no later picture may follow the missing ones
            self._file.close()
            raise
        self._fragments += 1
        self.frames += len(images)

    def finish(self) -> Path:
        """Give the video its name, as an ordinary MP4 that starts fast, and return that name.

        A video whose name is refused, as while a program holds it, stays under its partial one,
        which is returned then.

        Raises:
            RuntimeError: nothing was appended, or appending failed.
        """
        if self._file.closed or not self.frames:
            raise RuntimeError(f"{self.partial} has {self.frames} frames or is closed already.")
        self._file.close()
        whole = whole_name(self.partial)
        try:
            put_together(self.partial, whole, self._chapters, self._tags)
        except (OSError, av.FFmpegError) as error:
            logger.warning("%s stays in fragments, which play as well: %s", self.path, error)
            _discard(whole)
        name = self._rename(whole)
        self._finished = True
        _discard(whole)
        if name != self.partial:
            _discard(self.partial)
        return name

    def abandon(self) -> Path | None:
        """Stop here: what was appended stays as `partial`, which is returned if it has frames.

        It becomes an ordinary MP4, unless its disk has refused to take more. Does nothing once the
        video is finished.
        """
        self._file.close()
        if self._finished or not self.partial.exists():
            return None
        if not self.frames:
            _discard(self.partial)
            return None
        if not self._refused:
            close(self.partial, self._chapters, self._tags)
        return self.partial

    @property
    def _chapters(self) -> list[Chapter]:
        """Of what was appended."""
        assert all(a < b for (a, _), (b, _) in pairwise(self.chapters)), (
            "chapters follow each other"
        )
        return chapters_of(self.chapters, float(self.frames / self._rate))

    @property
    def _tags(self) -> dict[str, str]:
        return {key: json.dumps(value) for key, value in self._metadata.items()}

    def _rename(self, whole: Path) -> Path:
        """Give `whole`, or the fragments where it is missing, the video's name; see `finish`."""
        for source in (whole, self.partial):
            try:
                replace(source, self.path)
                return self.path
            except OSError as error:
                refusal = error
        logger.warning("%s cannot have its name: %s", self.path, refusal)
        with suppress(OSError):
            replace(whole, self.partial)
        return self.partial

    def _fragment(self, images: Tensor) -> bytes:
        """`images` as a fragment that continues the file; the first one begins with the header."""
        if images.shape[1:] != (self._height, self._width, 3):
            raise ValueError(
                f"The pictures are {tuple(images.shape[1:])}, but the video needs "
                f"{(self._height, self._width, 3)}."
            )
        buffer, tags = io.BytesIO(), self._tags
        options = {
            "movflags": f"{FRAGMENT}+{TAGS}",
            "fragment_index": str(self._fragments + 1),
            "avoid_negative_ts": "disabled",  # or each fragment would begin at time 0
        }
        with av.open(buffer, "w", format="mp4", options=options) as container:
            if not self._fragments:
                container.metadata.update(tags)
            # An encoder of its own: x264 cannot go on once it is flushed, and a fragment is on disk
            # only when all of it is.
            stream = container.add_stream("libx264", rate=self._rate, options=dict(ENCODER))
            stream.width, stream.height = self._width, self._height
            stream.pix_fmt = "yuv420p"
            codec = stream.codec_context
            codec.colorspace, codec.color_range = BT601, LIMITED
            codec.color_primaries = codec.color_trc = BT709
            for number, image in enumerate(images.numpy(), start=self.frames):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU601,
                    dst_color_range=ColorRange.MPEG,
                    **ONE_THREAD,
                )
                frame.pts, frame.time_base = number, 1 / self._rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        data = buffer.getvalue()
        if self._fragments:
            data = data[_fragment_start(data) :]
            if tags != self._tags_there:  # a kill may be next
                data = changed_tags(tags) + data
        self._tags_there = tags
        return data

    def _write(self, data: bytes) -> None:
        start_bytes = self._file.tell()
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
            sync(self._file.fileno())
        except OSError as error:
            self._refused = True
            with suppress(OSError):
                self._file.truncate(start_bytes)
            beyond, seen = "", ""
            if self.frames:
                beyond = f" beyond its first {self.frames} frames"
                seen = f" What was written plays from {self.partial.name}."
            raise RuntimeError(
                f"The video could not be written{beyond} ({error.strerror}): "
                f"{advice(error, self.partial.parent)} and queue again.{seen}"
            ) from error


def _discard(path: Path) -> None:
    """Delete a file that is not needed, unless someone holds it, such as a player."""
    with suppress(OSError):
        unlink(path)


def _one_thread() -> dict[str, int]:
    """How conversions are kept to one thread: with more, they differed now and then."""
    try:
        av.VideoFrame(16, 16, "rgb24").reformat(format="yuv420p", threads=1)
    except TypeError:  # before PyAV offered a choice there was one
        return {}
    return {"threads": 1}


ONE_THREAD = _one_thread()


def _fragment_start(data: bytes) -> int:
    """Where the first `moof` box begins in an MP4 that has one."""
    start = 0
    while data[start + 4 : start + 8] != b"moof":
        start += int.from_bytes(data[start : start + 4], "big")
    return start
