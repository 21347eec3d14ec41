"""Decodes a video of any length with the host's VAE objects, on the host's terms.

Does what the host's own `VAE.decode` does around the model (loading, device, dtype, range), but for
a few frames at a time and with memory reserved for those. Which VAEs can do it: `decoders`.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Any, cast

import comfy.sd
import torch
from comfy import model_management
from comfy.ldm.wan.vae import WanVAE
from comfy.taesd.taehv import TAEHV
from comfy.utils import ProgressBar
from torch import Tensor

from ...film.background import to_bytes
from ...grid import WAN
from ...scenes import WHOLE, Film, ends
from ..newer import outliving
from ..notice import tell
from .decoders import TaehvDecoder, WanDecoder

logger = logging.getLogger(__name__)

PART_FRAMES = 8  # decoded and written together: 2 s of 16 fps, between two key frames
# Of a scene that comes back: then no picture shows where it was left. Measured on the bundled VAE
# only, see "Pictures at a cut" in docs/measurements.md.
WARMING_FRAMES = 9


class VideoDecoder:
    """Decodes one film as it grows, on the host's terms: device, dtype, loading, interrupts.

    Every latent frame but the film's first is 4 pictures. A scene has a decoder of its own, so the
    first frame of a new one gives one picture, which stands 4 times. The decoder of a scene that
    comes back sees the scene's last frames again.

    When memory runs out the decoder starts over with its cache in host memory, and the pictures
    stay the same. For that it keeps what the piece was given, no copy of it if that is in host
    memory.

    Args:
        vae: the host's VAE object.
        latents: a latent of the video, `[B, C, T, h, w]`; only its sizes matter.
        pieces: of the film. Others may be set later, if they begin with what is decoded.

    Raises:
        ValueError: a VAE that does not decode causally, or latents of another VAE.
    """

    def __init__(self, vae: comfy.sd.VAE, latents: Tensor, pieces: Film = WHOLE) -> None:
        check_decodable(vae, latents)
        self._vae = vae
        self._kind = TaehvDecoder if isinstance(vae.first_stage_model, TAEHV) else WanDecoder
        self.pieces = pieces
        self._scene = pieces[0].scene
        self._given: list[Tensor] = []  # of this piece, and before it those of the scene's end
        self._ends: dict[int, list[Tensor]] = {}  # what each scene was given last
        self.frames = 0  # latent frames decoded so far
        self._spill = False
        self._needed_bytes = needed_bytes(vae, latents)
        self._model = cast(Any, vae.first_stage_model)  # of the kind that its decoder takes
        self._decoder = self._kind(self._model, spill=False)

    def load(self) -> None:
        """Bring the VAE to its device; needed before `push` whenever other models ran there."""
        model_management.load_models_gpu([self._vae.patcher], memory_required=self._needed_bytes)

    @property
    def device_bytes(self) -> int:
        """Needed on its device, weights and all."""
        return self._vae.patcher.model_size() + self._needed_bytes

    def push(self, latents: Tensor) -> Iterator[Tensor]:
        """Decode the next latents `[B, C, t, h, w]` to images `[B, F, H, W, 3]` in 0..1.

        Grouped as the host groups them, in each piece anew: the first frame of a scene alone, then
        two at a time. A frame that is left over is decoded alone, which may change pictures by a
        few millionths; none is left over when the first latents of a scene are odd in number and
        the next ones even.
        """
        while latents.shape[2]:
            to_come = [piece.first_frame - self.frames for piece in self.pieces]
            if self.frames and 0 in to_come:
                self._begin(self.pieces[to_come.index(0)].scene)
            begins = not self._given
            size = 1 if begins else min(2, *(frames for frames in to_come if frames > 0), 2)
            group, latents = latents[:, :, :size], latents[:, :, size:]
            images = self._images(group)
            if begins and self.frames:
                images = images.expand(-1, WAN.video_frames, -1, -1, -1)
            self.frames += group.shape[2]
            yield images

    def _begin(self, scene: int) -> None:
        """Begin a piece of a scene, with a decoder that has seen the end of it so far."""
        self._ends[self._scene] = self._given[-WARMING_FRAMES:]
        self._scene, self._given = scene, []
        self._decoder = self._kind(self._model, spill=self._spill)
        if end := self._ends.pop(scene, None):
            last = torch.cat(end, 2)[:, :, -WARMING_FRAMES:]
            for group in (last[:, :, :1], *last[:, :, 1:].split(2, 2)):
                if group.shape[2]:
                    self._images(group)

    def _images(self, group: Tensor) -> Tensor:
        model_management.throw_exception_if_processing_interrupted()
        self._given.append(group.cpu())
        images = self._decode(group)
        return self._start_over() if images is None else images

    def _decode(self, group: Tensor) -> Tensor | None:
        """None when memory ran out."""
        vae = self._vae
        try:
            with torch.inference_mode(), model_management.cuda_device_context(vae.device):
                with outliving():
                    pixels = self._decoder.decode(group.to(device=vae.device, dtype=vae.vae_dtype))
                pixels = pixels.to(
                    device=vae.output_device, dtype=vae.vae_output_dtype(), copy=True
                )
                return vae.process_output(pixels).movedim(1, -1)
        except Exception as error:
            model_management.raise_non_oom(error)
            return None

    def _start_over(self) -> Tensor:
        """Decode the piece again, sparing the device's memory, and return the last images."""
        if not self._spill:
            text = "Out of memory while decoding: starting over with less of it"
            logger.warning("%s.", text)
            tell(text)
            self._spill = True
            self._decoder = self._kind(self._model, spill=True)
            model_management.soft_empty_cache()
            images: Tensor | None = None
            for group in self._given:
                model_management.throw_exception_if_processing_interrupted()
                images = self._decode(group)
                if images is None:
                    break
            if images is not None:
                return images
        height, width = self._given[-1].shape[3:]
        raise RuntimeError(
            f"Out of memory while decoding latents of {width}x{height}, even with the decoder's "
            "cache in main memory: use a smaller decoder such as lighttaew2_1, or start ComfyUI "
            "with --cpu-vae."
        )


def needed_bytes(vae: comfy.sd.VAE, latents: Tensor) -> int:
    """What decoding `[B, C, T, h, w]` takes of the device at most, beside the weights."""
    samples, channels, _, height, width = latents.shape
    model = vae.first_stage_model
    if isinstance(model, WanVAE):
        pixels = height * width * vae.spacial_compression_decode() ** 2
        elements = WanDecoder.PIXEL_ELEMENTS * model.dim * pixels
        return samples * elements * model_management.dtype_size(vae.vae_dtype)
    return int(samples * vae.memory_used_decode((1, channels, 2, height, width), vae.vae_dtype))


def check_decodable(vae: comfy.sd.VAE, latents: Tensor) -> None:
    """Raises ValueError unless `vae` can decode causally and `latents` are a video of its kind."""
    vae.throw_exception_if_invalid()
    model = vae.first_stage_model
    wan = isinstance(model, WanVAE) and vae.conv_out_channels in (3, 4)
    if not wan and not isinstance(model, TAEHV):
        raise ValueError(
            f"vae is {_looks_like(vae)}: use the Wan 2.1 VAE or a small one of the TAEHV kind, "
            "such as lighttaew2_1, or decode with the host's VAE Decode."
        )
    if latents.is_nested or latents.ndim != 5 or not latents.numel():
        shape = "nested" if latents.is_nested else tuple(latents.shape)
        raise ValueError(
            f"samples has the shape {shape}: a video latent [batch, channels, frames, height, "
            "width] is needed."
        )
    if latents.shape[1] != vae.latent_channels:
        raise ValueError(
            f"samples has {latents.shape[1]} channels, but vae is {_looks_like(vae)}: use the VAE "
            "that belongs to the model which made the video."
        )
    _check_finite(latents)


def _check_finite(latents: Tensor) -> None:
    """Raises ValueError for frames that would be black; sizes alone hold no frames."""
    if not latents.is_meta:
        wrong = latents.isfinite().all(4).all(3).all(1).all(0).logical_not().nonzero()
        if len(wrong):
            raise ValueError(
                f"samples holds NaN or infinite values in {len(wrong)} of {latents.shape[2]} "
                f"latent frames, first in frame {int(wrong[0])}: they would be black, so make the "
                "video anew from there, with another attention or precision (bf16 or fp32)."
            )


def decode_video(
    vae: comfy.sd.VAE, latents: Tensor, progress: ProgressBar, pieces: Film = WHOLE
) -> Iterator[Tensor]:
    """One film, latents `[1, C, T, h, w]`, as uint8 parts `[F, H, W, 3]` in order.

    Counts latent frames in `progress`. Raises what `VideoDecoder` raises.
    """
    decoder = VideoDecoder(vae, latents, pieces)
    decoder.load()
    before = progress.current
    for part in parts(latents, pieces):
        images = []
        for decoded in decoder.push(part):
            images.append(to_bytes(decoded[0]))
            progress.update_absolute(before + decoder.frames)
        yield torch.cat(images)


def parts(latents: Tensor, pieces: Film = WHOLE) -> Iterator[Tensor]:
    """`[B, C, T, h, w]` in parts that keep the host's grouping and end at every cut.

    A scene begins with 9 frames; then, and where it comes back, there are 8 at a time.
    """
    frames = latents.shape[2]
    edges: list[int] = []
    begun: set[int] = set()
    for piece, end in zip(pieces, ends(pieces, frames), strict=True):
        second = piece.first_frame + PART_FRAMES + (piece.scene not in begun)
        edges += [piece.first_frame, *range(second, end, PART_FRAMES)]
        begun.add(piece.scene)
    return (latents[:, :, start:end] for start, end in itertools.pairwise([*edges, frames]))


def _looks_like(vae: comfy.sd.VAE) -> str:
    model = vae.first_stage_model
    if isinstance(model, WanVAE):
        kind = f"a Wan 2.1 VAE with {vae.conv_out_channels} output channels"
    elif type(model).__module__.endswith("wan.vae2_2"):
        kind = "the Wan 2.2 VAE"
    else:
        kind = {1: "an audio VAE", 2: "an image VAE"}.get(vae.latent_dim, "another video VAE")
    return f"{kind} for latents of {vae.latent_channels} channels ({type(model).__name__})"
