"""Progress, time left and previews of a rollout in the host's own widgets."""

import time
from collections.abc import Callable

import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor

from ...plan import Plan
from ..notice import tell

STILL_PREVIEWERS = (latent_preview.Latent2RGBPreviewer, latent_preview.TAESDPreviewerImpl)


Picture = Callable[[], Image.Image | None]


class Progress:
    """A sampling callback: counts chunks x steps, tells the time left, shows the running chunk."""

    def __init__(
        self,
        model: ModelPatcher,
        plan: Plan,
        *,
        steps: int,
        finished_frames: int = 0,
        picture: Picture | None = None,
    ) -> None:
        self._plan = plan
        self._steps = steps
        self._first_chunk = plan.chunk_of(finished_frames)
        self._bar = comfy.utils.ProgressBar((plan.chunk_count - self._first_chunk) * steps)
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._picture = picture or (lambda: None)
        self._first: tuple[int, float] | None = None  # steps done and clock at the first report

    @property
    def animated(self) -> bool:
        """Whether previews need the whole planned video; others show the first frame they get."""
        return not isinstance(self._previewer, (*STILL_PREVIEWERS, type(None)))

    def __call__(self, step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
        """`x0` is what to show, `[1, C, T, H, W]`; `step` counts over all chunks."""
        done = step + 1
        self._bar.update_absolute(done, total_steps, self._preview(x0))
        self._tell(done, total_steps)

    def _preview(self, x0: Tensor) -> tuple | None:
        picture = self._picture()
        if picture is not None or self._previewer is None:
            return as_preview(picture)
        return self._previewer.decode_latent_to_preview_image("JPEG", x0)

    def _tell(self, done: int, total: int) -> None:
        chunk, step = divmod(done - 1, self._steps)
        text = f"Chunk {self._first_chunk + chunk + 1} of {self._plan.chunk_count}, "
        text += f"step {step + 1} of {self._steps}"
        now = time.perf_counter()
        if (
            self._first is None or done <= self._first[0]
        ):  # what came before was loading and remembering what is given
            self._first = (done, now)
        else:
            first_done, first = self._first
            left = (now - first) / (done - first_done) * (total - done)
            text += f", {duration(left)} left"
        tell(text)


def as_preview(picture: Image.Image | None) -> tuple | None:
    """A picture as the host's progress bar takes it."""
    return None if picture is None else ("JPEG", picture, None)


def duration(seconds: float) -> str:
    """Seconds in words that a person reads at a glance: "42 s", "3 min 10 s", "2 h 5 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
