"""A whole video from one request: plan, sampling through the host, latents and trace.

What autosave has of the video is taken as it is; the rest is sampled as its continuation.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import comfy.model_management
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.utils import ProgressBar
from torch import Tensor

from ...plan import Chunk, Plan
from ...trace import ChunkTrace, Trace
from ..film.live import LiveVideo
from ..keeping.autosave import Autosave, autosave
from ..model.attention import policy_of
from ..notice import tell
from ..request import LATENT_CHANNELS, Request
from .guided import Run
from .progress import Progress, as_preview
from .sampler import RolloutSampler

OnChunk = Callable[[Chunk, Tensor], None]


def generate(
    request: Request, on_chunk: OnChunk | None = None, live: LiveVideo | None = None
) -> tuple[Tensor, Trace]:
    """Generate the video of a request.

    Args:
        on_chunk: called with every chunk and its kept latents, in order, as soon as it is finished
            and saved. Given chunks and those saved by an earlier run are finished from the start.
        live: files that grow with the video and are shown as preview. A chunk is written there
            before it is saved, so what is saved can be seen.

    Returns:
        Clean latents `[B, 16, T, H/8, W/8]` as the host's LATENT holds them, and the trace.
    """
    model = request.model
    sigmas = _sigmas(request, model)
    plan = _plan(request, model, given_frames=request.prefix_frames)
    video = Video(request, on_chunk, live)
    growing = live.partials if live else ()
    saving = autosave(request, model, plan, sigmas, growing) if request.autosave else nullcontext()
    with saving as saved:
        if saved and live:
            live.supersedes = saved.left_behind
        if saved:
            _take_over(saved, video, plan)
        if video.finished_frames < request.latent_frames:
            given_frames = max(request.prefix_frames, video.finished_frames)
            plan = _plan(request, model, given_frames)
            picture = live.picture if live else None
            progress = Progress(model, plan, steps=len(sigmas) - 1, picture=picture)
            _sample(request, model, plan, sigmas, video, saved, progress)
    return video.latents, video.trace


class Video:
    """A video as it grows: its latents, the prefix in place, and what its chunks have read."""

    def __init__(self, request: Request, on_chunk: OnChunk | None, live: LiveVideo | None) -> None:
        self.latents = torch.zeros(
            request.latent_shape,
            device=comfy.model_management.intermediate_device(),
            dtype=comfy.model_management.intermediate_dtype(),
        )
        if request.prefix is not None:
            self.latents[:, :, : request.prefix_frames] = request.prefix
        self.finished_frames = 0
        self._on_chunk = on_chunk
        self.live = live
        self._fps = request.fps
        self._traces: list[ChunkTrace] = []
        self._rows: tuple[str, ...] = ()

    def put(
        self,
        chunk: Chunk,
        kept: Tensor,
        trace: ChunkTrace,
        rows: tuple[str, ...],
        *,
        save_to: Autosave | None = None,
    ) -> None:
        """Finish the next chunk, to be saved or not; what reaches beyond the end is left out."""
        latents = kept.to(self.latents)
        frames = self.latents[:, :, chunk.first_frame : chunk.first_frame + chunk.length_frames]
        frames.copy_(latents[:, :, : frames.shape[2]])
        self.finished_frames = chunk.first_frame + chunk.length_frames
        self._traces.append(trace)
        self._rows = rows
        if self.live is not None:
            self.live.append(frames)
        if save_to is not None:
            save_to.save(kept, trace, rows)
        if self._on_chunk is not None:
            self._on_chunk(chunk, latents)

    @property
    def trace(self) -> Trace:
        nothing = ((),) * len(self._rows)
        read = (
            t if t.history else replace(t, history=nothing, scores=nothing) for t in self._traces
        )
        return Trace(chunks=tuple(read), rows=self._rows, fps=self._fps)


def _take_over(saved: Autosave, video: Video, plan: Plan) -> None:
    """Put what is saved in place; a live video is decoded anew, which takes its time."""
    bar = ProgressBar(saved.saved_chunks)
    for chunk in saved.chunks():
        done = chunk.trace.index + 1
        if video.live:
            tell(f"Chunk {done} of {plan.chunk_count} is saved: decoding it")
        video.put(plan.chunk(chunk.trace.index), chunk.latents, chunk.trace, chunk.rows)
        if video.live:
            bar.update_absolute(done, preview=as_preview(video.live.picture()))


def _plan(request: Request, model: ModelPatcher, given_frames: int) -> Plan:
    return Plan(
        policy_of(model),
        total_frames=request.latent_frames,
        chunk_frames=request.frames_per_chunk,
        prefix_frames=given_frames,
    )


def _sample(
    request: Request,
    model: ModelPatcher,
    plan: Plan,
    sigmas: Tensor,
    video: Video,
    saved: Autosave | None,
    progress: Progress,
) -> None:
    """Sample what the video lacks, through the host."""

    def finish(chunk: Chunk, latents: Tensor, run: Run) -> None:
        if chunk.first_frame >= video.finished_frames:
            video.put(chunk, latents, run.traces[-1], run.rows, save_to=saved)
            displaced = video.live is not None and video.live.displaces_model
            if displaced and plan.has_chunk(chunk.index + 1):
                run.load_model(latents)

    conditionings = {"positive": request.positive, "negative": request.negative}
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({name: cond for name, cond in conditionings.items() if cond is not None})
    guider.set_cfg(request.cfg)
    given = video.latents[:, :, : plan.prefix_frames] if plan.prefix_frames else None
    sampler = RolloutSampler(
        plan,
        prefix=given,
        on_chunk=finish,
        whole_previews=progress.animated,
        spared_bytes=video.live.spared_bytes if video.live else 0,
    )
    shape = (request.batch_size, LATENT_CHANNELS, request.frames_per_chunk, *request.latent_size)
    empty = torch.zeros(shape)
    guider.sample(
        empty, empty, sampler, sigmas, callback=progress, disable_pbar=True, seed=request.seed
    )


def _sigmas(request: Request, model: ModelPatcher) -> Tensor:
    if request.sigmas is not None:
        return request.sigmas
    sampling = model.get_model_object("model_sampling")
    return comfy.samplers.calculate_sigmas(sampling, "simple", request.steps)
