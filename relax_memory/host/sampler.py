"""The chunk loop as a sampler of the host.

`MemorySampler` is a SAMPLER for SamplerCustomAdvanced and draws its noise as the host's
`SamplerARVideo` does. `RolloutSampler` is what our own nodes run: noise by frame, a prefix, and
finished chunks handed out one by one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import comfy.model_management
import comfy.samplers
import torch
from comfy.model_base import BaseModel
from torch import Tensor

from ..noise import chunk_noise
from ..plan import Chunk, Plan
from ..policies import Policy, RelaxedMemory
from ..rollout import Source, rollout
from ..storage import Storage
from ..trace import ChunkTrace
from .attention import attached, check_supported, policy_of
from .checks import check_conditioning, check_latent, check_sigmas
from .reserve import STORAGE, ChunkedSampler
from .session import SESSION, Session

Callback = Callable[[int, Tensor, Tensor, int], None]
OnStep = Callable[[Chunk, int, Tensor, Tensor], None]
PREVIEW_BYTES_ON_DEVICE = 2**26


class Run:
    """One rollout through a guider of the host; owns the session, which ends with `chunks`.

    `traces` and `rows` tell what the chunks handed out so far have read.
    """

    def __init__(self, guider: comfy.samplers.CFGGuider, extra_args: dict, plan: Plan) -> None:
        self._guider = guider
        self._extra_args = extra_args
        self._plan = plan
        self.traces: list[ChunkTrace] = []
        self.rows: tuple[str, ...] = ()

    def chunks(
        self, sigmas: Tensor, source: Source, on_step: OnStep
    ) -> Iterator[tuple[Chunk, Tensor]]:
        """Finished chunks in order, with the latents that `source` keeps."""
        model = self._guider.model_patcher
        options = self._extra_args["model_options"].setdefault("transformer_options", {})
        storage = options.get(STORAGE, Storage(device="gpu"))
        session = Session(self._plan, storage, model.load_device)

        def denoise(chunk: Chunk, x: Tensor, sigma: Tensor) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            session.begin(chunk, clean=False)
            return self._guider(x, sigma * x.new_ones(len(x)), **self._extra_args)

        def remember(chunk: Chunk, kept: Tensor) -> None:
            if self._plan.has_chunk(chunk.index + 1):
                x = source.restore(kept)
                session.begin(chunk, clean=True)
                self._guider(x, x.new_zeros(len(x)), **self._extra_args)

        chunks = rollout(
            self._plan,
            sigmas=sigmas,
            source=source,
            denoise=denoise,
            remember=remember,
            on_step=on_step,
        )
        has_memory = policy_of(model) is not None
        with nullcontext() if has_memory else attached(model, self._plan.policy):
            options[SESSION] = session
            try:
                start = time.perf_counter()
                for chunk, kept in chunks:
                    self.traces.append(session.trace(chunk, time.perf_counter() - start))
                    self.rows = session.rows
                    start = time.perf_counter()
                    yield chunk, kept
            finally:
                chunks.close()
                del options[SESSION]


class HostNoise:
    """Chunks cut from the host's full-length noise; re-noising follows `SamplerARVideo`."""

    def __init__(self, x: Tensor, seed: int) -> None:
        self._x = x
        self._seed = seed

    def noise(self, chunk: Chunk, draw: int) -> Tensor:
        frames = self._x[:, :, chunk.first_frame : chunk.first_frame + chunk.length_frames]
        if draw == 0:
            return frames
        seed = self._seed + 1000 * chunk.index + draw - 1
        generator = torch.Generator(frames.device).manual_seed(seed % 2**64)
        like = {"device": frames.device, "dtype": frames.dtype}
        return torch.randn(frames.shape, generator=generator, **like)

    def given(self, chunk: Chunk) -> Tensor:
        raise RuntimeError(f"Chunk {chunk.index} is given, but this sampler takes no prefix.")

    def keep(self, x0: Tensor) -> Tensor:
        return x0

    def restore(self, kept: Tensor) -> Tensor:
        return kept


class FrameNoise:
    """Noise by frame (`chunk_noise`); latents are kept as the host's LATENT, on its device.

    Args:
        prefix: kept latents `[B, C, P, H, W]` the video continues from, or None.
        shape: `[B, C, n, H, W]` of a chunk.
    """

    def __init__(
        self, model: BaseModel, *, seed: int, sigma: Tensor, prefix: Tensor | None, shape: tuple
    ) -> None:
        self._model = model
        self._seed = seed
        self._sigma = sigma
        self._prefix = prefix
        self._shape = shape

    def noise(self, chunk: Chunk, draw: int) -> Tensor:
        samples, *shape = self._shape
        noise = chunk_noise(
            self._seed,
            samples=samples,
            first_frame=chunk.first_frame,
            draw=draw,
            shape=tuple(shape),
        ).to(self._sigma.device)
        if draw > 0:
            return noise
        sampling = self._model.model_sampling
        return sampling.noise_scaling(self._sigma, noise, torch.zeros_like(noise))

    def given(self, chunk: Chunk) -> Tensor:
        return self._prefix[:, :, chunk.first_frame : chunk.first_frame + chunk.length_frames]

    def keep(self, x0: Tensor) -> Tensor:
        return self._model.process_latent_out(x0).to(
            comfy.model_management.intermediate_device(),
            comfy.model_management.intermediate_dtype(),
        )

    def restore(self, kept: Tensor) -> Tensor:
        return self._model.process_latent_in(kept.to(self._sigma.device, torch.float32))


class MemorySampler(ChunkedSampler):
    """Generates the frames of the given noise chunk by chunk; the last chunk may be shorter."""

    def __init__(self, chunk_frames: int) -> None:
        self.chunk_frames = chunk_frames

    def plan(self, policy: Policy | None, frames: int) -> Plan:
        """What is read when, for a video of `frames` latent frames; None: the paper's policy."""
        return Plan(
            policy or RelaxedMemory(),
            total_frames=frames,
            chunk_frames=self.chunk_frames,
            whole_chunks=False,
        )

    def sample(  # noqa: PLR0913  (the host's signature)
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
        _check_input(model_wrap, sigmas, noise, denoise_mask)
        x = model_wrap.inner_model.model_sampling.noise_scaling(
            sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas)
        )
        plan = self.plan(policy_of(model_wrap.model_patcher), x.shape[2])
        video = torch.zeros_like(x)
        on_step = _report(callback, video, plan, steps=len(sigmas) - 1)
        run = Run(model_wrap, extra_args, plan)
        source = HostNoise(x, extra_args.get("seed") or 0)
        for chunk, latents in run.chunks(sigmas, source, on_step):
            _put(video, chunk, latents)
        return video


class RolloutSampler(MemorySampler):
    """Runs a whole plan on one chunk's worth of the host's memory and hands out finished chunks.

    The host sees one chunk `[B, C, n, H, W]`; what it returns for it has no meaning.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        prefix: Tensor | None,
        on_chunk: Callable[[Chunk, Tensor, Run], None],
    ) -> None:
        super().__init__(plan.chunk_frames)
        self._plan = plan
        self._prefix = prefix
        self._on_chunk = on_chunk

    def plan(self, policy: Policy | None, frames: int) -> Plan:
        return self._plan

    def sample(  # noqa: PLR0913  (the host's signature)
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
            prefix=self._prefix,
            shape=tuple(noise.shape),
        )
        on_step = self._previews(callback, source, noise, steps=len(sigmas) - 1)
        run = Run(model_wrap, extra_args, self._plan)
        for chunk, latents in run.chunks(sigmas, source, on_step):
            self._on_chunk(chunk, latents, run)
        return noise

    def _previews(
        self, callback: Callback | None, source: FrameNoise, like: Tensor, *, steps: int
    ) -> OnStep:
        """Show the first sample at the full planned length, as animated previewers expect."""
        shape = (1, like.shape[1], self._plan.total_frames, *like.shape[3:])
        small = 4 * torch.Size(shape).numel() <= PREVIEW_BYTES_ON_DEVICE
        video = torch.zeros(shape, device=like.device if small else "cpu")
        if self._prefix is not None:
            video[:, :, : self._prefix.shape[2]] = source.restore(self._prefix[:1])
        return _report(callback, video, self._plan, steps=steps)


def _check_input(
    guider: comfy.samplers.CFGGuider, sigmas: Tensor, noise: Tensor, mask: Tensor | None
) -> None:
    """Raise ValueError for what our own nodes refuse before the host is asked to sample."""
    network = guider.model_patcher.get_model_object("diffusion_model")
    check_supported(network)
    for name, conds in guider.conds.items():
        entries = ((cond.get("cross_attn"), cond) for cond in conds)
        check_conditioning(name, entries, text_dim=network.text_dim)
    check_sigmas(sigmas)
    if mask is not None:
        raise ValueError(
            "latent_image has a noise mask, which chunked sampling cannot follow: use a latent "
            "without one."
        )
    check_latent(noise)


def _report(callback: Callback | None, video: Tensor, plan: Plan, *, steps: int) -> OnStep:
    """Tell the host of each step: counted over all generated chunks, shown in the whole video."""
    first = plan.chunk_of(plan.prefix_frames)
    total = (plan.chunk_count - first) * steps

    def on_step(chunk: Chunk, step: int, x: Tensor, x0: Tensor) -> None:
        if callback is not None:
            _put(video, chunk, x0[: len(video)])
            callback((chunk.index - first) * steps + step, video, x, total)

    return on_step


def _put(video: Tensor, chunk: Chunk, latents: Tensor) -> None:
    frames = video[:, :, chunk.first_frame : chunk.first_frame + chunk.length_frames]
    frames.copy_(latents[:, :, : frames.shape[2]])
