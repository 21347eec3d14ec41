"""Clips of the small world as latents and texts: what the transformer is trained on.

Encoded once by the small VAE and kept in `data/training/`, in shards that are made when they are
first needed.
"""

import json
import math
import random
from pathlib import Path
from statistics import NormalDist

import torch
from comfy.latent_formats import Wan21
from comfy.ldm.wan.vae import WanVAE
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.train_vae import FILE, LONGEST, VAE, as_pixels
from demo.training import CHECKPOINTS, DEVICE
from demo.world import RADII, SIZE, SPEEDS, SWING, Scene, draw, positions, random_scene

FRAMES = 21  # latent frames of a clip: 81 video frames, 5 seconds
VIDEO_FRAMES = 4 * (FRAMES - 1) + 1
SHARDS, SHARD_CLIPS = 16, 250
FIRST_SHARDS = 4
STEPS_A_SHARD = 400  # steps after which another shard takes part
BATCH_CLIPS = 10
CELLS = 4  # rows and columns of cells of a frame, one of which a thing begins in


class Clips:
    """All clips, the first of them at once and more while a training goes on."""

    def __init__(self) -> None:
        self._latents: list[Tensor] = []
        self._texts: list[list[str]] = []
        self._beginnings: list[list[tuple[Tensor, Tensor]]] = []

    def choose(
        self, rng: random.Random, count: int, step: int
    ) -> tuple[Tensor, list[str], Tensor, Tensor]:
        """Latents `[count, 16, 21, 8, 8]` as models see them, a text and a `beginning` of each."""
        shards = min(SHARDS, FIRST_SHARDS + step // STEPS_A_SHARD)
        while len(self._latents) < shards:
            self._load(len(self._latents))
        chosen = [(rng.randrange(shards), rng.randrange(SHARD_CLIPS)) for _ in range(count)]
        latents = torch.stack([self._latents[shard][clip] for shard, clip in chosen])
        beginnings = (self._beginnings[shard][clip] for shard, clip in chosen)
        cells, numbers = (torch.stack(each).to(DEVICE) for each in zip(*beginnings, strict=True))
        texts = [self._texts[shard][clip] for shard, clip in chosen]
        return latents.float().to(DEVICE), texts, cells, numbers

    def _load(self, shard: int) -> None:
        path = shard_path(shard)
        if not path.exists():
            write_shard(shard)
        with safe_open(path, "pt") as file:
            self._latents.append(file.get_tensor("latents"))
            self._texts.append(json.loads(file.metadata()["texts"]))
        rng = random.Random(f"beginnings {shard}")
        self._beginnings.append([beginning(*clip, rng) for clip in scenes(shard)])


def shard_path(shard: int) -> Path:
    return CHECKPOINTS / f"clips_{shard}.safetensors"


def scenes(shard: int) -> list[tuple[Scene, int]]:
    """What the clips of a shard show, and the video frame at which each begins."""
    rng = random.Random(f"clips {shard}")
    return [(random_scene(rng), rng.randrange(LONGEST)) for _ in range(SHARD_CLIPS)]


def beginning(scene: Scene, moment: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Where a clip's things begin and how they move, as `coupled` wants it.

    Returns:
        The cell `[2]` of each of two things among `CELLS` rows and columns, -1 for one not there,
        and `[2, 7]` numbers: place in the cell, velocity, swing, radius. Over all clips cells are
        about evenly and numbers normally distributed, and all of them are independent.
    """
    cells, numbers = torch.full((2,), -1), torch.zeros(2, 7)
    here, next_ = positions(scene, torch.tensor([moment, moment + 1]))
    for index, (thing, place, after) in enumerate(zip(scene.things, here, next_, strict=True)):
        across, down = (
            CELLS * _share(x, thing.radius, SIZE - thing.radius) for x in place.tolist()
        )
        cells[index] = CELLS * int(down) + int(across)
        heading = math.atan2(*(after - place).flip(0).tolist())
        speed = _share(math.hypot(*thing.velocity), *SPEEDS[scene.speed])
        numbers[index] = torch.tensor(
            [
                *(NormalDist().inv_cdf(_inner(number % 1)) for number in (across, down)),
                *_vector(heading, speed),
                *_vector(thing.phase + SWING * moment, rng.random()),
                NormalDist().inv_cdf(_inner(_share(thing.radius, *RADII))),
            ]
        )
    return cells, numbers


def _share(number: float, least: float, most: float) -> float:
    """Of the way from `least` to `most`; never all of it."""
    return min(max((number - least) / (most - least), 0.0), 1.0 - 1e-6)


def _inner(share: float) -> float:
    return min(max(share, 0.01), 0.99)


def _vector(angle: float, share: float) -> tuple[float, float]:
    """Two independent normal numbers, if all angles and shares are as frequent."""
    length = math.sqrt(-2 * math.log(1 - _inner(share)))
    return length * math.cos(angle), length * math.sin(angle)


@torch.no_grad()
def write_shard(shard: int) -> None:
    vae = WanVAE(**VAE)
    vae.load_state_dict({k: v.float() for k, v in load_file(FILE).items()})
    vae.to(DEVICE)
    latents = []
    drawn = scenes(shard)
    for start in range(0, SHARD_CLIPS, BATCH_CLIPS):
        batch = drawn[start : start + BATCH_CLIPS]
        videos = [draw(scene, first + torch.arange(VIDEO_FRAMES)) for scene, first in batch]
        latents.append(Wan21().process_in(vae.encode(as_pixels(videos))).half().cpu())
    texts = [scene.prompt for scene, _ in drawn]
    path = shard_path(shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({"latents": torch.cat(latents)}, part, metadata={"texts": json.dumps(texts)})
    part.replace(path)
    print(f"Wrote {path.name}", flush=True)


def shortened(text: str, rng: random.Random) -> str:
    """A text with some of its details left out, as people write."""
    if rng.random() < 0.5:
        text = text.replace("plain ", "")
    if rng.random() < 0.15:
        text = text.partition(",")[0]
    if rng.random() < 0.1:
        text = text.partition(" over")[0]
    return text
