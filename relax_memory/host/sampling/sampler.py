"""The chunk loop as a sampler of the host.

`MemorySampler` is a SAMPLER for SamplerCustomAdvanced and draws its noise as the host's
`SamplerARVideo` does. `RolloutSampler` is what our own nodes run: noise by frame, a prefix, and
finished chunks handed out one by one.
"""

from collections.abc import Callable

import comfy.samplers
import torch
from torch import Tensor

from ...memory.storage import Storage
from ...plan import Chunk, Plan
from ...policies import Policy, RelaxedMemory
from ..checks import check_conditioning, check_latent, check_sigmas
from ..model.attention import check_supported, policy_of
from ..room.reserve import STORAGE, ChunkedSampler, decide
from .guided import OnStep, Run
from .latents import FrameNoise, HostNoise

Callback = Callable[[int, Tensor, Tensor, int], None]
PREVIEW_BYTES_ON_DEVICE = 2**26


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
        policy = policy_of(model_wrap.model_patcher)
        plan = self.plan(policy, x.shape[2])
        if policy is None:  # a memory node would have decided before the model was loaded
            options = extra_args["model_options"].setdefault("transformer_options", {})
            options[STORAGE] = decide(model_wrap, plan, Storage(), x).storage
        video = torch.zeros_like(x)
        on_step = _report(callback, video, plan, steps=len(sigmas) - 1)
        run = Run(model_wrap, extra_args, plan)
        source = HostNoise(x, extra_args.get("seed") or 0)
        for chunk, latents in run.chunks(sigmas, source, on_step):
            _put(video, chunk, latents)
        return video


class RolloutSampler(MemorySampler):
    """Runs a whole plan on one chunk's worth of the host's memory and hands out finished chunks.

    The host sees one chunk `[B, C, n, H, W]`; what it returns for it has no meaning. Its callback
    gets the running chunk of the first sample, or with `whole_previews` that chunk in its place in
    a video of the full planned length, as animated previewers expect.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        prefix: Tensor | None,
        on_chunk: Callable[[Chunk, Tensor, Run], None],
        whole_previews: bool = False,
        spared_bytes: int = 0,
    ) -> None:
        super().__init__(plan.chunk_frames)
        self.spared_bytes = spared_bytes
        self._plan = plan
        self._prefix = prefix
        self._on_chunk = on_chunk
        self._whole_previews = whole_previews

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
        if not self._whole_previews:
            return _report(callback, None, self._plan, steps=steps)
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


def _report(callback: Callback | None, video: Tensor | None, plan: Plan, *, steps: int) -> OnStep:
    """Tell the host of each step, counted over all generated chunks; `video` shows what is done."""
    first = plan.chunk_of(plan.prefix_frames)
    total = (plan.chunk_count - first) * steps

    def on_step(chunk: Chunk, step: int, x: Tensor, x0: Tensor) -> None:
        if callback is not None:
            if video is not None:
                _put(video, chunk, x0[: len(video)])
            shown = x0[:1] if video is None else video
            callback((chunk.index - first) * steps + step, shown, x, total)

    return on_step


def _put(video: Tensor, chunk: Chunk, latents: Tensor) -> None:
    frames = video[:, :, chunk.first_frame : chunk.first_frame + chunk.length_frames]
    frames.copy_(latents[:, :, : frames.shape[2]])
