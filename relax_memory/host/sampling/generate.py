"""A whole video from one request: plan, sampling through the host, latents and trace.

What autosave has of the video is taken as it is; the rest is sampled as its continuation.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import comfy.model_management
import comfy.samplers
import torch
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfy.utils import ProgressBar
from torch import Tensor

from ...keepers import Finished, Keeper
from ...policies import RelaxedMemory
from ...storyboard import Storyboard
from ...trace import Trace, joined
from ..film.live import LiveVideo
from ..keeping.autosave import Autosave, autosave
from ..lengths import note_lengths
from ..model.attention import with_memory
from ..notice import note, tell
from ..options import options_of
from ..request import Request
from ..room.residence import Residence
from ..steering.desk import Desk, running
from .film import chapters_of
from .guided import GuidedRollout
from .latents import frames_of
from .progress import Progress
from .prompts import Film, Prompts
from .sampler import NO_MEMORY_NODE, RolloutSampler
from .session import Session


def generate(
    request: Request,
    *watching: Keeper,
    live: LiveVideo | None = None,
    desk: Desk | None = None,
) -> tuple[Tensor, Trace]:
    """Generate the video of a request.

    Args:
        watching: keepers that are given every chunk last, as soon as it is finished and saved;
            chunks saved by an earlier run are given to them first.
        live: files that grow with the video and are shown instead of previews. A chunk is written
            there before it is saved, so what is saved can be seen.
        desk: where the request is steered while it is made.

    Returns:
        Clean latents `[B, 16, T, H/8, W/8]` as the host's LATENT holds them, and the trace.
    """
    note_lengths(request)
    if options_of(request.model) is None:
        note(NO_MEMORY_NODE)
    model = remembering(request.model)
    desk = desk or Desk(request)
    schedule = request.schedule
    storyboard = request.storyboard
    growing = live.partials if live else ()
    saving = (
        autosave(request, model, storyboard, schedule, growing, desk.graph)
        if request.autosave
        else nullcontext()
    )
    with running(desk), saving as saved:
        desk.request = request = saved.request if saved else request
        video = Video(request)
        if saved and live:
            live.supersedes = saved.left_behind
        shown = _Growing(live, video, model) if live else None
        own: tuple[Keeper, ...] = (*((shown,) if shown else ()), *((saved,) if saved else ()))
        keepers = (video, *own, *watching)
        if saved:
            _replay(saved, storyboard, keepers, live)
        first_frame = max(video.finished_frames, request.prefix_frames)
        if first_frame < request.latent_frames:
            desk.begin(storyboard.chunk_of(first_frame))
        session = None
        while video.finished_frames < request.latent_frames:
            session = _sample(request, model, video, keepers, shown, desk, session)
            if video.finished_frames < request.latent_frames:
                request = desk.steered(video.finished_frames)
                storyboard = request.storyboard
                if live:
                    live.follow(storyboard.pieces, chapters_of(request))
                    live.must_load = True
                if saved:
                    saved.follow(request, storyboard)
    return video.latents[:, :, : request.latent_frames], video.trace


def remembering(model: ModelPatcher) -> ModelPatcher:
    """The model with the paper's memory, unless a memory node gave it another."""
    return model if options_of(model) else with_memory(model, RelaxedMemory())


class Video:
    """A video as it grows: its latents, the prefix in place, and what its chunks have read.

    `noisy` is what the last step of a chunk was given, where that step is remembered.
    """

    def __init__(self, request: Request) -> None:
        self.latents = torch.zeros(
            request.latent_shape,
            device=comfy.model_management.intermediate_device(),
            dtype=comfy.model_management.intermediate_dtype(),
        )
        if request.prefix is not None:
            self.latents[:, :, : request.prefix_frames] = request.prefix.detach()
        self.finished_frames = 0
        self.noisy: dict[int, Tensor] = {}
        self._fps = request.fps
        self._finished: list[tuple] = []

    def keep(self, finished: Finished) -> None:
        """Put a chunk in place; what reaches beyond the end is left out."""
        frames = frames_of(self.latents, finished.chunk)
        frames.copy_(finished.latents[:, :, : frames.shape[2]])
        self.finished_frames = finished.chunk.film_frame + finished.chunk.length_frames
        if finished.noisy is not None:
            self.noisy[finished.chunk.film_index] = finished.noisy
        self._finished.append((finished.trace, finished.rows))

    @property
    def trace(self) -> Trace:
        return joined(self._finished, fps=self._fps)


class _Growing:
    """Shows the live files what the video holds, so that latents are held once.

    Decoding may displace the model, which is brought back for the next chunk.
    """

    def __init__(self, live: LiveVideo, video: Video, model: ModelPatcher) -> None:
        self.live = live
        self._video = video
        self._residence = Residence(model)

    def keep(self, finished: Finished) -> None:
        self._residence.note()
        self.live.append(frames_of(self._video.latents, finished.chunk))

    def give_way(self, run: GuidedRollout, latents: Tensor) -> None:
        """Have the model back that decoding has displaced."""
        if self.live.displaces_model and self._residence.is_broken:
            run.load_model(latents)
            self.live.must_load = True


def _replay(
    saved: Autosave, storyboard: Storyboard, keepers: Sequence[Keeper], live: LiveVideo | None
) -> None:
    """Give what is saved to the keepers; a live video is decoded anew, which takes its time."""
    bar = ProgressBar(saved.saved_chunks)
    for chunk in saved.chunks():
        done = chunk.trace.index + 1
        if live:
            tell(f"Chunk {done} of {storyboard.chunk_count} is saved: decoding it")
        finished = Finished(
            chunk=storyboard.chunk(chunk.trace.index),
            latents=chunk.latents,
            trace=chunk.trace,
            rows=chunk.rows,
            noisy=chunk.noisy,
        )
        for keeper in keepers:
            keeper.keep(finished)
        if live:
            bar.update_absolute(done)


def _sample(
    request: Request,
    model: ModelPatcher,
    video: Video,
    keepers: Sequence[Keeper],
    shown: _Growing | None,
    desk: Desk,
    session: Session | None,
) -> Session | None:
    """Sample what the video lacks, through the host, as far as it is not steered.

    Going on with the session of what was sampled before, and returning that to go on with.
    """
    storyboard, schedule = request.storyboard, request.schedule
    progress = Progress(
        model,
        storyboard,
        schedule=schedule,
        finished_frames=max(video.finished_frames, request.prefix_frames),
        pictures=shown is None,
    )

    def between(finished: Finished, run: GuidedRollout) -> bool:
        following = finished.chunk.film_index + 1
        if following == storyboard.chunk_count:
            return False
        if desk.begin(following):
            return True
        if shown:
            shown.give_way(run, finished.latents)
        return False

    prompts = Prompts(storyboard, request.prompts, request.said)
    conditionings = {"positive": request.positive, "negative": request.negative}
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds(
        {
            name: _on_device(conditioning, model)
            for name, conditioning in (conditionings | prompts.entries).items()
            if conditioning is not None
        }
    )
    guider.set_cfg(request.cfg)
    sampler = RolloutSampler(
        Film(storyboard, prompts),
        video=video.latents,
        keepers=keepers,
        finished_frames=video.finished_frames,
        between=between,
        whole_previews=progress.animated,
        spared_bytes=shown.live.spared_bytes if shown else 0,
        sigmas_first=schedule.first,
        clean_pass=schedule.clean_pass,
        noisy=video.noisy,
        first_sample=request.first_sample,
        session=session,
    )
    samples, channels, _, *size = request.latent_shape
    empty = torch.zeros(samples, channels, request.frames_per_chunk, *size)
    try:
        guider.sample(
            empty,
            empty,
            sampler,
            schedule.sigmas,
            callback=progress,
            disable_pbar=True,
            seed=request.seed,
        )
    except InterruptProcessingException:
        if not request.autosave:
            done = sum(not trace.given for trace in video.trace.chunks)
            note(
                f"Stopped after {done} of {storyboard.chunk_count} chunks, which are lost: "
                "autosave is off"
            )
        raise
    return sampler.session


def _on_device(conditioning: list, model: ModelPatcher) -> list:
    """The prompt where and as the model reads it, so that no pass copies it anew."""
    like = {"device": model.load_device, "dtype": model.model.get_dtype_inference()}
    return [[text.to(**like), *options] for text, *options in conditioning]
