"""The chunk loop as a sampler of the host.

`MemorySampler` is a SAMPLER for SamplerCustomAdvanced and draws its noise as the host's
`SamplerARVideo` does. `RolloutSampler` is what our own nodes run: noise by frame, a prefix, and
finished chunks handed out one by one.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing

import comfy.samplers
import torch
from comfy.sampler_helpers import convert_cond
from torch import Tensor

from ...keepers import Finished, Keeper
from ...memory.storage import Storage
from ...passes import Pass, Schedule
from ...policies import RelaxedMemory
from ...rollout import OnStep
from ...storyboard import Storyboard
from ..following import AS_MADE, chunk_frames, follow_sigmas
from ..gates.guider import check_run
from ..gates.sigmas import check_first
from ..gates.words import say
from ..notice import note
from ..options import Options, in_run, options_of
from ..room.reserve import ChunkedSampler, decide
from ..shots import directed
from .guided import GuidedRollout
from .latents import FrameNoise, HostNoise, frames_of
from .prompts import Film, Prompts
from .session import Session

Callback = Callable[[int, Tensor, Tensor, int], None]
Finish = Callable[[Finished, GuidedRollout], bool]
PREVIEW_BYTES_ON_DEVICE = 2**26
NO_MEMORY_NODE = "No memory node: the settings of the paper are used"


class MemorySampler(ChunkedSampler):
    """Generates the frames of the given noise chunk by chunk; the last chunk may be shorter."""

    extra_options: dict[str, object] = {}
    inpaint_options: dict[str, object] = {}

    def __init__(
        self,
        chunk_frames: int,
        sigmas_first: Tensor | None = None,
        clean_pass: str = AS_MADE,
    ) -> None:
        self.chunk_frames = chunk_frames  # 0: as the checkpoint was made
        self.sigmas_first = sigmas_first  # levels of a chunk with nothing before it, if others
        self.clean_pass = clean_pass

    @staticmethod
    def sampler_function(*_: object, **__: object) -> Tensor:
        """What a sampler that wraps another calls, with a model of its own making."""
        caller = sys._getframe(1).f_code.co_name
        raise ValueError(
            f"sampler is Relax Forcing Sampler Select inside another sampler ({caller}), but it "
            "calls the model chunk by chunk itself and cannot run inside one: connect it to "
            "SamplerCustomAdvanced directly."
        )

    def film(self, guider: comfy.samplers.CFGGuider, like: Tensor) -> Film:
        """What is made of a latent `[B, C, T, h, w]`, with the shots that conditionings carry."""
        given = options_of(guider.model_patcher)
        shots, notes = directed(
            guider, like, chunk_frames=self.chunk_frames, clean_pass=self.clean_pass
        )
        say([*shots.begins, *notes])
        storyboard = Storyboard(
            given.policy if given else RelaxedMemory(),
            total_frames=like.shape[2],
            chunk_frames=chunk_frames(guider.model_patcher, self.chunk_frames),
            whole_chunks=False,
            shots=shots.shots,
        )
        prompts = Prompts(storyboard, shots.prompts)
        guider.conds |= {name: convert_cond(entries) for name, entries in prompts.entries.items()}
        return Film(storyboard, prompts)

    @torch.no_grad()  # as the host's own samplers: it may be called outside of a server's run
    def sample(  # type: ignore[override]  # noqa: PLR0913  (as the host calls it)
        self,
        model_wrap: comfy.samplers.CFGGuider,
        sigmas: Tensor,
        extra_args: dict,
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """The host's interface: noise `[B, 16, T, H/8, W/8]` to clean latents of that shape.

        Raises:
            ValueError: input that cannot be sampled, by name, with its value and what is needed.
        """
        check_run(model_wrap, sigmas, noise, latent_image, denoise_mask)
        model = model_wrap.model_patcher
        schedule, notes = follow_sigmas(
            model,
            sigmas,
            frames_per_chunk=self.chunk_frames,
            sigmas_first=self.sigmas_first,
            clean_pass=self.clean_pass,
        )
        check_first(schedule.first, sigmas)
        say(notes)
        x = model_wrap.inner_model.model_sampling.noise_scaling(
            sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas)
        )
        given = options_of(model)
        if given is None:  # a memory node would have decided before the model was loaded
            note(NO_MEMORY_NODE)
            film = self.film(model_wrap, x)
            if film.prompts.entries:
                raise ValueError(
                    "The conditioning carries shots, which are prepared by a memory node: put "
                    "Relax Forcing Memory between the model and the guider, or use Relax Forcing "
                    "Sampler."
                )
            storage = decide(model_wrap, film, Storage(), x).storage
            options = Options(policy=film.storyboard.policy, storage=storage, film=film)
        else:
            options = in_run(extra_args)
        video = torch.zeros_like(x)
        run = GuidedRollout(
            model_wrap,
            extra_args,
            options,
            schedule=schedule,
            source=HostNoise(x, extra_args.get("seed") or 0, video),
            has_node=given is not None,
        )
        for finished in run.chunks(_report(callback, video, run.storyboard, schedule)):
            frames_of(video, finished.chunk).copy_(finished.latents)
        return video


class RolloutSampler(MemorySampler):
    """Makes a whole film on one chunk's worth of the host's memory and hands out finished chunks.

    The host sees one chunk `[B, C, n, H, W]`; what it returns for it has no meaning. Its callback
    gets the running chunk of the first sample, or with `whole_previews` that chunk in its place in
    a video of the full planned length, as animated previewers expect.

    Args:
        video: kept latents `[B, C, T, H, W]` of the whole video, finished up to `finished_frames`;
            the keepers fill in the rest.
        keepers: are given every chunk after these frames.
        between: called after the keepers; the run ends where it answers that it is to.
        sigmas_first: levels of a chunk with nothing before it, where they are others.
        clean_pass: whether a finished chunk is remembered, or its last step.
        noisy: by chunk, what the last steps of finished frames were given.
        first_sample: number of the first one in the batch that the video was begun in.
        session: of the run that made the last finished frames; in its place is that of this run,
            to go on with where `between` ends it.
    """

    def __init__(  # noqa: PLR0913  (all by name, all of one run)
        self,
        film: Film,
        *,
        video: Tensor,
        keepers: Sequence[Keeper],
        finished_frames: int = 0,
        between: Finish = lambda finished, run: False,
        whole_previews: bool = False,
        spared_bytes: int = 0,
        sigmas_first: Tensor | None = None,
        clean_pass: bool = True,
        noisy: dict[int, Tensor] | None = None,
        first_sample: int = 0,
        session: Session | None = None,
    ) -> None:
        super().__init__(film.storyboard.chunk_frames, sigmas_first)
        self.session = session
        if session:
            self.storage, self.held = session.storage, session.held
        self.spared_bytes = spared_bytes
        self._film = film
        self._video = video
        self._keepers = keepers
        self._finished_frames = finished_frames
        self._between = between
        self._whole_previews = whole_previews
        self._clean_pass = clean_pass
        self._noisy = noisy
        self._first_sample = first_sample

    def film(self, guider: comfy.samplers.CFGGuider, like: Tensor) -> Film:
        return self._film

    @torch.no_grad()
    def sample(  # type: ignore[override]  # noqa: PLR0913  (as the host calls it)
        self,
        model_wrap: comfy.samplers.CFGGuider,
        sigmas: Tensor,
        extra_args: dict,
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        source = FrameNoise(
            model_wrap.inner_model,
            seed=extra_args["seed"],
            sigma=sigmas[0],
            video=self._video,
            shape=tuple(noise.shape),
            first_sample=self._first_sample,
        )
        first = self.sigmas_first
        schedule = Schedule(
            sigmas=sigmas,
            first=None if first is None else first.to(sigmas),
            clean_pass=self._clean_pass,
        )
        run = GuidedRollout(
            model_wrap,
            extra_args,
            in_run(extra_args),
            schedule=schedule,
            source=source,
            has_node=True,
            finished_frames=self._finished_frames,
            noisy=self._noisy,
            session=self.session,
        )
        self.session = None
        with closing(run.chunks(self._previews(callback, source, noise, schedule))) as chunks:
            for finished in chunks:
                for keeper in self._keepers:
                    keeper.keep(finished)
                self._finished_frames += finished.chunk.length_frames
                if self._between(finished, run):
                    self.session = run.session
                    break
        return noise

    def _previews(
        self, callback: Callback | None, source: FrameNoise, like: Tensor, schedule: Schedule
    ) -> OnStep:
        first_frame = self._finished_frames
        if not self._whole_previews:
            return _report(callback, None, self._film.storyboard, schedule, first_frame)
        shape = (1, like.shape[1], self._film.storyboard.total_frames, *like.shape[3:])
        small = 4 * torch.Size(shape).numel() <= PREVIEW_BYTES_ON_DEVICE
        preview = torch.zeros(shape, device=like.device if small else "cpu")
        if first_frame:
            preview[:, :, :first_frame] = source.restore(self._video[:1, :, :first_frame])
        return _report(callback, preview, self._film.storyboard, schedule, first_frame)


def _report(
    callback: Callback | None,
    preview: Tensor | None,
    storyboard: Storyboard,
    schedule: Schedule,
    finished_frames: int = 0,
) -> OnStep:
    """Tell the host of each step, counted over all chunks that are made; `preview` shows them."""
    steps = [
        0 if chunk.given or chunk.film_frame < finished_frames else schedule.steps(chunk)
        for chunk in storyboard
    ]
    total = sum(steps)
    done = [sum(steps[:index]) for index in range(len(steps))]

    def on_step(pass_: Pass, x: Tensor, x0: Tensor) -> None:
        if callback is not None:
            if preview is not None:
                frames = frames_of(preview, pass_.chunk)
                frames.copy_(x0[: len(preview), :, : frames.shape[2]])
            shown = x0[:1] if preview is None else preview
            callback(done[pass_.chunk.film_index] + pass_.step, shown, x, total)

    return on_step
