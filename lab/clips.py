"""Clips of the small world as latents: what the transformer is trained on.

Encoded once by the small VAE and kept in `data/training/`, in shards that are made when they are
first needed.
"""

import random
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from comfy.latent_formats import Wan21
from comfy.ldm.wan.vae import WanVAE
from safetensors.torch import load_file, save_file
from torch import Tensor

from lab.train_vae import FILE, LONGEST, VAE, as_pixels
from lab.training import CHECKPOINTS, DEVICE
from lab.world import SIZE, Scene, draw, positions, random_scene

FRAMES = 21  # latent frames of a clip: 81 video frames, 5 seconds
VIDEO_FRAMES = 4 * (FRAMES - 1) + 1
SHARDS, APART_SHARDS, SHARD_CLIPS = 16, 8, 250  # of things anywhere, of two that begin apart
FIRST_SHARDS = 4
STEPS_A_SHARD = 400  # steps after which another shard takes part
BATCH_CLIPS = 10
BLUR = 4.0  # pixels around a thing whose latents show it too


@dataclass(frozen=True, kw_only=True)
class Clip:
    """`latents` `[16, 21, 8, 8]`, as models see them, of a scene from a video frame on.

    `without` are those of the same clip without thing `missing`, where two things begin apart.
    """

    latents: Tensor
    scene: Scene
    moment: int
    without: Tensor | None = None
    missing: int = 0

    def video_frame(self, frame: int) -> int:
        """The first that a latent frame shows, counted as the scene counts them."""
        return self.moment + max(0, 4 * frame - 3)

    def shows(self, index: int) -> Tensor:
        """Which latents show one of the things, `[21, 8, 8]`."""
        middles = (torch.arange(self.latents.shape[-1]) + 0.5) * SIZE / self.latents.shape[-1]
        pixels = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1)
        moments = torch.tensor([self.video_frame(frame) for frame in range(FRAMES)])
        places = positions(self.scene, moments + 1.5)  # of four video frames
        distances = (pixels - places[:, :, None, None]).norm(dim=-1)  # [21, things, 8, 8]
        near = distances[:, index] < self.scene.things[index].radius + BLUR
        return near & (distances.argmin(1) == index)


def still(latents: Tensor) -> Tensor:
    """What latents `[..., T, h, w]` show most of the time, the ground: `[..., 1, h, w]`."""
    return latents.median(dim=-3, keepdim=True).values


def choose(
    rng: random.Random, count: int, step: int, *, crowded: bool = False, apart: bool = False
) -> list[Clip]:
    """Clips for a step, of few shards at first.

    Args:
        crowded: of two clips each time the one with more things.
        apart: of the world in which two things begin apart.
    """
    shards = range(min(SHARDS, FIRST_SHARDS + step // STEPS_A_SHARD))
    if apart:
        shards = range(SHARDS, SHARDS + APART_SHARDS)

    def drawn() -> Clip:
        return rng.choice(_load(rng.choice(shards)))

    if not crowded:
        return [drawn() for _ in range(count)]
    return [max(drawn(), drawn(), key=lambda clip: len(clip.scene.things)) for _ in range(count)]


@cache
def _load(shard: int) -> list[Clip]:
    path = shard_path(shard)
    if not path.exists():
        write_shard(shard)
    kept = load_file(path)
    without = kept["without"].float() if apart_in(shard) else [None] * SHARD_CLIPS
    return [
        Clip(
            latents=latents,
            scene=scene,
            moment=moment,
            without=other,
            missing=missing(number, scene),
        )
        for number, (latents, other, (scene, moment)) in enumerate(
            zip(kept["latents"].float(), without, scenes(shard), strict=True)
        )
    ]


def shard_path(shard: int) -> Path:
    return CHECKPOINTS / f"clips_{shard}.safetensors"


def apart_in(shard: int) -> bool:
    """Whether two things begin apart in the clips of a shard."""
    return shard >= SHARDS


def scenes(shard: int) -> list[tuple[Scene, int]]:
    """What the clips of a shard show, and the video frame at which each begins."""
    rng = random.Random(f"clips {shard}")
    apart = apart_in(shard)
    return [
        (random_scene(rng, apart=apart), 0 if apart else rng.randrange(LONGEST))
        for _ in range(SHARD_CLIPS)
    ]


def missing(number: int, scene: Scene) -> int:
    """Which thing of a clip, by its number in the shard, is not in the other version of it."""
    return number % len(scene.things)


def write_shard(shard: int) -> None:
    drawn = scenes(shard)
    latents = {"latents": encoded(drawn)}
    if apart_in(shard):
        latents["without"] = encoded(
            [
                (lacking(scene, missing(number, scene)), moment)
                for number, (scene, moment) in enumerate(drawn)
            ]
        )
    path = shard_path(shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(latents, part)
    part.replace(path)
    print(f"Wrote {path.name}", flush=True)


def lacking(scene: Scene, thing: int) -> Scene:
    """The scene as if the thing had never been there."""
    return replace(scene, things=scene.things[:thing] + scene.things[thing + 1 :])


@torch.no_grad()
def encoded(drawn: list[tuple[Scene, int]]) -> Tensor:
    """Latents `[B, 16, 21, 8, 8]` in half precision of scenes from video frames on."""
    vae = WanVAE(**VAE)
    vae.load_state_dict({k: v.float() for k, v in load_file(FILE).items()})
    vae.to(DEVICE)
    latents = []
    for start in range(0, len(drawn), BATCH_CLIPS):
        batch = drawn[start : start + BATCH_CLIPS]
        videos = [draw(scene, first + torch.arange(VIDEO_FRAMES)) for scene, first in batch]
        latents.append(Wan21().process_in(vae.encode(as_pixels(videos))).half().cpu())
    return torch.cat(latents)


def shortened(text: str, rng: random.Random) -> str:
    """A text with some of its details left out, as people write."""
    if rng.random() < 0.5:
        text = text.replace("plain ", "")
    if rng.random() < 0.15:
        text = text.partition(",")[0]
    if rng.random() < 0.1:
        text = text.partition(" over")[0]
    return text
