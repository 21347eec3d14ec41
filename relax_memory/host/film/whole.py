"""Finished latents to video files, shown on the node while they grow."""

from collections.abc import Callable, Iterator
from pathlib import Path

import comfy.sd
from comfy.utils import ProgressBar
from torch import Tensor

from ...film.background import write_video
from ...film.mp4 import VideoWriter
from ...grid import WAN
from ...scenes import WHOLE, Film
from ..notice import TimeLeft, tell, video_length
from .decode import decode_video
from .growing import Growing


def write_videos(
    vae: comfy.sd.VAE,
    latents: Tensor,
    open_writer: Callable[[], VideoWriter],
    *,
    fps: float,
    pieces: Film = WHOLE,
) -> list[Path]:
    """A file for each sample of a film `[B, C, T, h, w]`.

    Whatever stops it is passed on; what was written stays as playable files, which the node names.
    """
    samples, frames = latents.shape[0], latents.shape[2]
    progress = _Progress(samples, frames, seconds=video_seconds(frames, fps))
    growing = Growing()
    videos: list[Path] = []

    def shown(sample: Tensor, writer: VideoWriter) -> Iterator[Tensor]:
        for images in decode_video(vae, sample, progress, pieces):
            yield images
            if writer.frames:
                growing.grown([*videos, writer.partial])

    for sample in latents.split(1):
        writer = open_writer()
        try:
            videos.append(write_video(shown(sample, writer), writer))
        except BaseException:
            growing.stopped(path for path in (*videos, writer.partial) if path.exists())
            raise
    return videos


def video_seconds(latent_frames: int, fps: float) -> float:
    """How long the video of so many latent frames plays."""
    return WAN.length(latent_frames) / fps


class _Progress(ProgressBar):
    """Counts decoded latent frames of all samples and tells the time left."""

    def __init__(self, samples: int, frames: int, *, seconds: float) -> None:
        super().__init__(samples * frames)
        self._samples, self._frames, self._seconds = samples, frames, seconds
        self._time_left = TimeLeft()

    def update_absolute(
        self, value: int, total: int | None = None, preview: object | None = None
    ) -> None:
        super().update_absolute(value, total, preview)
        sample, frame = divmod(value - 1, self._frames)
        text = f"Video {sample + 1} of {self._samples}: " if self._samples > 1 else ""
        decoded = self._seconds * (frame + 1) / self._frames
        text += f"{decoded:.0f} of {video_length(self._seconds)} decoded"
        tell(text + self._time_left(value, self.total))
