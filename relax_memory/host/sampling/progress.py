"""Progress, time left and previews of a rollout in the host's own widgets."""

import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...passes import Schedule
from ...storyboard import Storyboard
from ..notice import TimeLeft, tell
from .previews import previewer

STILL_PREVIEWERS = (latent_preview.Latent2RGBPreviewer, latent_preview.TAESDPreviewerImpl)


class Progress:
    """A sampling callback: counts chunks x steps, tells the time left, shows the running chunk.

    With `pictures=False` it shows none: a node that shows its growing video must send no previews,
    or the browser takes its finished video for one.
    """

    def __init__(
        self,
        model: ModelPatcher,
        storyboard: Storyboard,
        *,
        schedule: Schedule,
        finished_frames: int = 0,
        pictures: bool = True,
    ) -> None:
        self._storyboard = storyboard
        self._first_chunk = storyboard.chunk_of(finished_frames)
        self._steps = [schedule.steps(chunk) for chunk in storyboard][self._first_chunk :]
        self._passes = [steps + schedule.clean_pass for steps in self._steps]
        self._bar = comfy.utils.ProgressBar(sum(self._steps))
        self._previewer = previewer(model) if pictures else None
        self._time_left = TimeLeft()

    @property
    def animated(self) -> bool:
        """Whether previews need the whole planned video; others show the first frame they get."""
        return not isinstance(self._previewer, (*STILL_PREVIEWERS, type(None)))

    def __call__(self, step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
        """`x0` is what to show, `[1, C, T, H, W]`; `step` counts over all chunks."""
        done = step + 1
        preview = None
        if self._previewer is not None:
            preview = self._previewer.decode_latent_to_preview_image("JPEG", x0)
        self._bar.update_absolute(done, total_steps, preview)
        chunk = 0
        while step >= self._steps[chunk]:
            step -= self._steps[chunk]
            chunk += 1
        text = f"Chunk {self._first_chunk + chunk + 1} of {self._storyboard.chunk_count}, "
        text += f"step {step + 1} of {self._steps[chunk]}"
        passes = sum(self._passes[:chunk]) + step + 1  # the last chunk needs no clean pass
        total = sum(self._passes[:-1]) + self._steps[-1]
        tell(text + self._time_left(passes, total))
