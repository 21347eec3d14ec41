"""Writing a video in a thread of its own while the next pictures are decoded.

The queue between the two is short, so memory does not depend on the length of the video. Knows
neither VAEs nor file formats.
"""

import contextvars
import logging
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from .mp4 import VideoWriter

logger = logging.getLogger(__name__)

DEPTH = 2


Written = TypeVar("Written", covariant=True)


class Writer(Protocol[Written]):
    """What `VideoWriter` is, for whatever comes in pieces."""

    def append(self, piece: Tensor, /) -> None: ...

    def finish(self) -> Written: ...

    def abandon(self) -> Written | None: ...


class BackgroundWriter(Generic[Written]):
    """Runs a writer in a thread, at most `depth` appends behind.

    What the writer raises is raised here, by the next call.
    """

    def __init__(self, writer: Writer[Written], depth: int = DEPTH) -> None:
        self._writer = writer
        self._depth = depth
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="relax-forcing-video")
        self._pending: deque[Future] = deque()

    def append(self, images: Tensor) -> None:
        """Queue `images`, uint8 `[F, H, W, 3]` on the CPU; waits while the queue is full."""
        while len(self._pending) >= self._depth:
            self._pending.popleft().result()
        in_context = contextvars.copy_context().run  # where hosts note which node is at work
        self._pending.append(self._thread.submit(in_context, self._writer.append, images))

    def finish(self) -> Written:
        """Write what is queued and give the video its name; see `VideoWriter.finish`."""
        while self._pending:
            self._pending.popleft().result()
        self._thread.shutdown()
        return self._writer.finish()

    def abandon(self) -> Written | None:
        """Write what is queued and stop; see `VideoWriter.abandon`."""
        self._thread.shutdown()
        return self._writer.abandon()


def write_video(pieces: Iterable[Tensor], writer: VideoWriter) -> Path:
    """Write a video from `pieces`, each uint8 `[F, H, W, 3]`, while the next piece is being made.

    Whatever stops the making or the writing is passed on as it is; the frames made before it stay
    in the writer's partial video.
    """
    background = BackgroundWriter(writer)
    try:
        for images in pieces:
            background.append(images)
        return background.finish()
    except BaseException:
        partial = background.abandon()
        if partial is not None:
            logger.warning("%d finished frames are kept in %s", writer.frames, partial)
        raise


def to_bytes(images: Tensor) -> Tensor:
    """Pictures in 0..1, `[..., C]` with at least 3 channels, as uint8 RGB `[..., 3]` on the CPU."""
    return images[..., :3].float().mul(255).round_().clamp_(0, 255).to("cpu", torch.uint8)
