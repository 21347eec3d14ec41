"""The host's causal video decoders, called piece by piece.

The Wan 2.1 decoder looks back through a feature cache, TAEHV decoders through the last input of
each block; the host carries them through one call for the whole clip. Here they are carried from
call to call, and every call is one that the host makes too, so the pictures are the host's bit for
bit. Knows no devices and no loading.
"""

from collections.abc import Iterator
from typing import Any

import torch
from comfy.ldm.wan.vae import WanVAE, count_cache_layers
from comfy.taesd.taehv import TAEHV, MemBlock, TGrow
from torch import Tensor


class WanDecoder:
    """Decodes one Wan 2.1 video; `spill` keeps the feature cache in host memory between layers.

    `PIXEL_ELEMENTS` are held at most for each pixel of a picture and channel of the last layer: 36
    to 38 counted on a simulated card, cache and two frames in work, and room for a convolution's
    workspace, which a simulated one does not have. The host's estimate is for a whole clip.
    """

    PIXEL_ELEMENTS = 45

    def __init__(self, model: WanVAE, *, spill: bool) -> None:
        self._model = model
        empty: list[Any] = [None] * count_cache_layers(model.decoder)
        self._cache = _SpilledCache(empty) if spill else empty

    def decode(self, latents: Tensor) -> Tensor:
        """`[B, C, t, h, w]` to pixels `[B, 3, F, H, W]`; the first frame of a video comes alone."""
        last = self._last_features(latents)
        pixels = self._model.decoder(
            self._model.conv2(latents), feat_cache=self._cache, feat_idx=[0]
        )
        for index, feature in last.items():
            self._cache[index] = torch.cat([feature, self._cache[index]], 2)
        return torch.cat(pixels, 2)

    def _last_features(self, latents: Tensor) -> dict[int, Tensor]:
        """What a frame decoded alone would push out of the cache although the next one needs it.

        Layers look back two frames, and the host caches the input of the last call. From the first
        temporal upsampling on, even one latent frame is two of them.
        """
        if latents.shape[2] > 1:
            return {}
        return {
            index: feature[:, :, -1:]
            for index, feature in enumerate(self._cache)
            if isinstance(feature, Tensor) and feature.shape[3:] == latents.shape[3:]
        }


class _SpilledCache(list[Any]):
    """A feature cache in host memory; the host's layers fetch each entry when they need it."""

    def __setitem__(self, index: int, feature: object) -> None:  # type: ignore[override]
        super().__setitem__(index, feature.cpu() if isinstance(feature, Tensor) else feature)


class TaehvDecoder:
    """Decodes one video with a TAEHV model, whose memory is too small to `spill`."""

    def __init__(self, model: TAEHV, *, spill: bool) -> None:
        self._model = model
        self._layers = list(model.decoder)
        self._past: dict[int, Tensor] = {}
        self._surplus_frames = model.frames_to_trim

    def decode(self, latents: Tensor) -> Tensor:
        """`[B, C, t, h, w]` to pixels `[B, 3, F, H, W]`."""
        frames = self._model.process_in(latents).movedim(2, 1).unbind(1)
        pixels = torch.stack([image for frame in frames for image in self._run(frame, 0)], 2)
        pixels = pixels[:, :, self._surplus_frames :]
        self._surplus_frames = 0
        return pixels

    def _run(self, x: Tensor, start: int) -> Iterator[Tensor]:
        """One frame `[B, C, h, w]` through the layers from `start`; some make two frames of it."""
        for index, layer in enumerate(self._layers[start:], start):
            if isinstance(layer, MemBlock):
                past = self._past.get(index)
                self._past[index] = x.clone()
                x = layer(x, torch.zeros_like(x) if past is None else past)
            elif isinstance(layer, TGrow):
                batch, _, height, width = x.shape
                grown = layer(x).view(batch, -1, height, width).chunk(layer.stride, 1)
                for part in grown:
                    yield from self._run(part, index + 1)
                return
            else:
                x = layer(x)
        size = self._model.patch_size
        yield torch.nn.functional.pixel_shuffle(x, size) if size > 1 else x
