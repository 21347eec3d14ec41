"""Where a rollout's noise comes from and in which form its latents are kept."""

from typing import Protocol

import comfy.model_management
import torch
from comfy.model_base import BaseModel
from torch import Tensor

from ...memory.transfer import upload
from ...noise import chunk_noise
from ...passes import Chunk
from ...rollout import Source
from ..room.copying import ways_to


def frames_of(video: Tensor, chunk: Chunk) -> Tensor:
    """The frames of a chunk in a video `[B, C, T, H, W]`, as far as it has them."""
    return video[:, :, chunk.film_frame : chunk.film_frame + chunk.length_frames]


class HostSource(Source, Protocol):
    """A source of a rollout through the host."""

    def restore(self, kept: Tensor) -> Tensor:
        """Kept latents as the model takes them."""


class HostNoise:
    """Chunks cut from the host's full-length noise; re-noising follows `SamplerARVideo`, in the
    scene `k` of a film as in a video of the seed plus `k`.

    Args:
        x: the noised latents that the host gives, `[B, C, T, H, W]`.
        video: what is kept of finished chunks, of the same shape.
    """

    def __init__(self, x: Tensor, seed: int, video: Tensor) -> None:
        self._x = x
        self._seed = seed
        self._video = video

    def noise(self, chunk: Chunk, draw: int) -> Tensor:
        frames = frames_of(self._x, chunk)
        if draw == 0:
            return frames
        seed = self._seed + chunk.scene + 1000 * chunk.index + draw - 1
        generator = torch.Generator(frames.device).manual_seed(seed % 2**64)
        return torch.randn(
            frames.shape, generator=generator, device=frames.device, dtype=frames.dtype
        )

    def kept(self, chunk: Chunk) -> Tensor:
        return frames_of(self._video, chunk)

    def keep(self, x0: Tensor) -> Tensor:
        return x0

    def restore(self, kept: Tensor) -> Tensor:
        return kept


class FrameNoise:
    """Noise by frame (`chunk_noise`); latents are kept as the host's LATENT, on its device.

    The scene `k` of a film has the noise of a video of the seed plus `k`.

    Args:
        video: kept latents `[B, C, T, H, W]` as far as they are finished, or None where no chunk is
            asked for again.
        shape: `[B, C, n, H, W]` of a chunk.
        first_sample: number of the first one in the batch that it was begun in.
    """

    def __init__(
        self,
        model: BaseModel,
        *,
        seed: int,
        sigma: Tensor,
        video: Tensor | None,
        shape: tuple,
        first_sample: int = 0,
    ) -> None:
        self._model = model
        self._seed = seed
        self._sigma = sigma
        self._video = video
        self._shape = shape
        self._first_sample = first_sample

    def noise(self, chunk: Chunk, draw: int) -> Tensor:
        samples, *shape = self._shape
        noise = chunk_noise(
            (self._seed + chunk.scene) % 2**64,
            samples=samples,
            first_sample=self._first_sample,
            first_frame=chunk.first_frame,
            draw=draw,
            shape=tuple(shape),
        )
        noise = upload(noise, self._sigma.device, ways_to(self._sigma.device))
        if draw > 0:
            return noise
        sampling = self._model.model_sampling
        return sampling.noise_scaling(self._sigma, noise, torch.zeros_like(noise))

    def kept(self, chunk: Chunk) -> Tensor:
        assert self._video is not None, "no chunk was to be asked for again"
        return frames_of(self._video, chunk)

    def keep(self, x0: Tensor) -> Tensor:
        # Scaled where it is kept: the host's constants lie there too.
        x0 = x0.to(comfy.model_management.intermediate_device())
        return self._model.process_latent_out(x0).to(comfy.model_management.intermediate_dtype())

    def restore(self, kept: Tensor) -> Tensor:
        device = self._sigma.device
        return upload(
            self._model.process_latent_in(kept.to(torch.float32)), device, ways_to(device)
        )
