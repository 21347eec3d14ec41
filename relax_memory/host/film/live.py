"""A video file that grows while its latents are sampled.

Each chunk is decoded and on disk, playable, before it is saved and before the next chunk begins;
where the VAE runs on another device than the model, it is decoded beside the next chunk instead.
On one device, VAE and model take turns: `displaces_model` tells when the model may have had to go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import comfy.sd
import torch
from comfy import model_management
from torch import Tensor

from ...film.background import BackgroundWriter, Writer, to_bytes
from ...film.mp4 import VideoWriter
from ...scenes import WHOLE, Film
from ..request import Request
from ..room.residence import Residence
from .decode import VideoDecoder
from .growing import Growing
from .output import remove_superseded

logger = logging.getLogger(__name__)

OpenWriter = Callable[[int, int], VideoWriter]


@contextmanager
def live_video(
    vae: comfy.sd.VAE, request: Request, open_writer: OpenWriter, pieces: Film = WHOLE
) -> Iterator[LiveVideo]:
    """Files for a request, one a sample; whatever stops the run leaves playable ones.

    Args:
        open_writer: opens the file of one sample for pictures of `(width, height)`.
        pieces: of the film.

    Raises:
        ValueError: a VAE that cannot decode these latents piece by piece.
    """
    live = LiveVideo(vae, request, open_writer, pieces)
    try:
        yield live
    except BaseException:
        for path in live.abandon():
            logger.warning("The finished chunks are kept in %s", path)
        raise


class LiveVideo:
    """The growing files of one request; see `live_video`.

    `partials` are their names while they grow. `supersedes` are such files of earlier runs, which
    are deleted at the end if the finished ones have every picture of them. `beside`: whether to
    decode a chunk while the next is sampled; by default where the devices are not the same.
    `spared_bytes` are needed on the model's device for decoding. `must_load`: the VAE needs room
    there, because the model has taken it back.
    """

    def __init__(
        self,
        vae: comfy.sd.VAE,
        request: Request,
        open_writer: OpenWriter,
        pieces: Film = WHOLE,
        *,
        beside: bool | None = None,
    ) -> None:
        like = torch.empty(request.latent_shape, device="meta")
        self._decoder = VideoDecoder(vae, like, pieces)
        scale = vae.spacial_compression_decode()
        height, width = (scale * size for size in request.latent_size)
        writers: list[VideoWriter] = []
        try:
            for _ in range(request.batch_size):
                writers.append(open_writer(width, height))
        except BaseException:
            for writer in writers:
                writer.abandon()
            raise
        self._writers = writers
        self.partials = [writer.partial for writer in writers]
        self.supersedes: list[Path] = []
        if beside is None:
            beside = vae.device != request.model.load_device
        self._growing = Growing()
        files = (_FilesBeside if beside else _Files)(writers, self._decoder, self._growing)
        self._files: Writer[list[Path]] = BackgroundWriter(files, depth=1) if beside else files
        self.displaces_model = not beside
        self.spared_bytes = 0 if beside else self._decoder.device_bytes
        self.must_load = True
        self._residence = Residence(vae.patcher)

    def follow(self, pieces: Film, chapters: Sequence[tuple[float, str]]) -> None:
        """Take other pieces and chapters, the same as far as latents are appended."""
        self._decoder.pieces = pieces
        for writer in self._writers:
            writer.chapters = chapters

    def append(self, latents: Tensor) -> None:
        """Decode the next latents `[B, C, t, h, w]`, which must not change until the end."""
        if self.must_load or (self.displaces_model and self._residence.is_broken):
            self._decoder.load()
            self.must_load = False
        self._files.append(latents)
        self._residence.note()

    def finish(self) -> list[Path]:
        """Turn what was written into ordinary MP4 files."""
        files = self._files.finish()
        remove_superseded(self.supersedes, files)
        return files

    def abandon(self) -> list[Path]:
        """Stop here; the finished chunks stay as playable files."""
        left = self._files.abandon() or []
        self._growing.stopped(left)
        return left


class _Files:
    """Decodes into the files of all samples; has the interface of a writer, but for latents."""

    def __init__(self, writers: list[VideoWriter], decoder: VideoDecoder, growing: Growing) -> None:
        self._writers = writers
        self._decoder = decoder
        self._growing = growing

    def append(self, latents: Tensor) -> None:
        images = torch.cat([to_bytes(group) for group in self._decoder.push(latents)], dim=1)
        for writer, video in zip(self._writers, images, strict=True):
            writer.append(video)
        self._growing.grown(writer.partial for writer in self._writers)

    def finish(self) -> list[Path]:
        return [writer.finish() for writer in self._writers]

    def abandon(self) -> list[Path]:
        partial = [writer.abandon() for writer in self._writers]
        return [path for path in partial if path is not None]


class _FilesBeside(_Files):
    """The same in a thread beside the one that samples."""

    def append(self, latents: Tensor) -> None:
        try:
            super().append(latents)
        except model_management.InterruptProcessingException:
            model_management.interrupt_current_processing()  # sampling must see it too
            raise

    def abandon(self) -> list[Path]:
        model_management.interrupt_current_processing(False)  # if sampling has not seen it
        return super().abandon()
