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
from demo.world import RADII, SIZE, SPINS, Scene, draw, positions, random_scene

FRAMES = 21  # latent frames of a clip: 81 video frames, 5 seconds
VIDEO_FRAMES = 4 * (FRAMES - 1) + 1
SHARDS, SHARD_CLIPS = 24, 250
FIRST_SHARDS = 4
STEPS_A_SHARD = 150  # steps after which another shard takes part
BATCH_CLIPS = 10
FOLDS = {"circle": 1, "square": 4, "triangle": 3}  # turns after which a shape is the same, in one


class Clips:
    """All clips, the first of them at once and more while a training goes on."""

    def __init__(self) -> None:
        self._latents: list[Tensor] = []
        self._texts: list[list[str]] = []
        self._beginnings: list[Tensor] = []

    def choose(self, rng: random.Random, count: int, step: int) -> tuple[Tensor, list[str], Tensor]:
        """Latents `[count, 16, 21, 8, 8]` as models see them, a text and a `beginning` for each."""
        shards = min(SHARDS, FIRST_SHARDS + step // STEPS_A_SHARD)
        while len(self._latents) < shards:
            self._load(len(self._latents))
        chosen = [(rng.randrange(shards), rng.randrange(SHARD_CLIPS)) for _ in range(count)]
        latents = torch.stack([self._latents[shard][clip] for shard, clip in chosen])
        beginnings = torch.stack([self._beginnings[shard][clip] for shard, clip in chosen])
        texts = [self._texts[shard][clip] for shard, clip in chosen]
        return latents.float().to(DEVICE), texts, beginnings.to(DEVICE)

    def _load(self, shard: int) -> None:
        path = shard_path(shard)
        if not path.exists():
            write_shard(shard)
        with safe_open(path, "pt") as file:
            self._latents.append(file.get_tensor("latents"))
            self._texts.append(json.loads(file.metadata()["texts"]))
        rng = random.Random(f"beginnings {shard}")
        self._beginnings.append(torch.stack([beginning(*clip, rng) for clip in scenes(shard)]))


def shard_path(shard: int) -> Path:
    return CHECKPOINTS / f"clips_{shard}.safetensors"


def scenes(shard: int) -> list[tuple[Scene, int]]:
    """What the clips of a shard show, and the video frame at which each begins."""
    rng = random.Random(f"clips {shard}")
    return [(random_scene(rng), rng.randrange(LONGEST)) for _ in range(SHARD_CLIPS)]


def beginning(scene: Scene, moment: int, rng: random.Random) -> Tensor:
    """Where a clip's things begin and how they move, as 16 numbers; NaN for a thing not there.

    Eight for each of two things: place, heading, turn, radius, spin. Over all clips every number is
    about normally distributed, and they are independent: directions have a random length.
    """
    numbers = torch.full((2, 8), math.nan)
    here, next_ = positions(scene, torch.tensor([moment, moment + 1]))
    for row, thing, place, after in zip(numbers, scene.things, here, next_, strict=False):
        room = (thing.radius, SIZE - thing.radius)
        heading = math.atan2(*(after - place).flip(0).tolist())
        turn = FOLDS[thing.shape] * (thing.angle + thing.spin * moment)
        row[:] = torch.tensor(
            [
                *(_normal(each, *room) for each in place.tolist()),
                *_direction(heading, rng),
                *_direction(turn, rng),
                _normal(thing.radius, *RADII),
                _normal(thing.spin, *SPINS),
            ]
        )
    return numbers.flatten()


def _normal(number: float, least: float, most: float) -> float:
    """An evenly distributed number as a normally distributed one."""
    return NormalDist().inv_cdf(min(max((number - least) / (most - least), 0.01), 0.99))


def _direction(angle: float, rng: random.Random) -> tuple[float, float]:
    """Two independent normal numbers that point there, if all angles are as frequent."""
    length = math.sqrt(-2 * math.log(1 - rng.random()))
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
