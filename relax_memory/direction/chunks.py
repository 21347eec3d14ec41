"""The chunks of one video, as `Plan` has them, in frames of the video and in seconds."""

from dataclasses import dataclass
from fractions import Fraction

from ..grid import WAN


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """The chunks of a video.

    Args:
        total_frames: latent frames of the whole video, prefix included.
        chunk_frames: latent frames made together.
        prefix_frames: latent frames given at the beginning.
    """

    total_frames: int
    chunk_frames: int
    prefix_frames: int
    fps: Fraction

    @property
    def remainder_frames(self) -> int:
        return self.prefix_frames % self.chunk_frames

    @property
    def end(self) -> int:
        return WAN.length(self.total_frames)

    @property
    def count(self) -> int:
        return self.chunk_of(self.total_frames - 1) + 1

    def chunk_of(self, frame: int) -> int:
        shift = 1 if self.remainder_frames else 0
        return (frame - self.remainder_frames) // self.chunk_frames + shift

    def first_frame(self, chunk: int) -> int:
        """The latent frame with which a chunk begins."""
        shift = 1 if self.remainder_frames else 0
        return max(0, self.remainder_frames + (chunk - shift) * self.chunk_frames)

    def start(self, chunk: int) -> int:
        """The frame of the video with which a chunk begins."""
        return WAN.length(self.first_frame(chunk))

    def latent(self, video_frame: Fraction) -> int:
        """The latent frame that holds a frame of the video."""
        return int((video_frame + WAN.video_frames - 1) // WAN.video_frames)

    def nearest(self, video_frame: Fraction) -> int:
        """The chunk that begins nearest to a frame of the video; of two the earlier."""
        chunk = self.chunk_of(min(self.latent(video_frame), self.total_frames - 1))
        if chunk + 1 == self.count:
            return chunk
        before, after = self.start(chunk), self.start(chunk + 1)
        return chunk if video_frame - before <= after - video_frame else chunk + 1

    def told(self, video_frames: Fraction | int) -> str:
        """Seconds of a frame of the video: "5.06", "10.3"."""
        return in_seconds(float(video_frames / self.fps))


def in_seconds(seconds: float) -> str:
    """As much of a time as people need to find it: "5.06", "10.3"."""
    return f"{seconds:.{2 if seconds < 10 else 1}f}".rstrip("0").rstrip(".")
