"""Clips of the small world as latents and texts: what the transformer is trained on.

Encoded once by the small VAE and kept in `data/training/`, in shards that are made when missing.
"""

import json
import random
from pathlib import Path

import torch
from comfy.latent_formats import Wan21
from comfy.ldm.wan.vae import WanVAE
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.train_vae import FOLDER, VAE, clip_of
from demo.training import CHECKPOINTS, DEVICE
from demo.world import random_scene

FRAMES = 21  # latent frames of a clip: 81 video frames, 5 seconds
VIDEO_FRAMES = 4 * (FRAMES - 1) + 1
SHARD_CLIPS = 250
BATCH_CLIPS = 10


def clips(shards: int) -> tuple[Tensor, list[str]]:
    """Latents `[clips, 16, 21, 8, 8]` as models see them, float16, and a text for each."""
    latents, texts = [], []
    for shard in range(shards):
        path = CHECKPOINTS / f"clips_{shard}.safetensors"
        if not path.exists():
            write_shard(path, shard)
        with safe_open(path, "pt") as file:
            latents.append(file.get_tensor("latents"))
            texts += json.loads(file.metadata()["texts"])
    return torch.cat(latents), texts


@torch.no_grad()
def write_shard(path: Path, shard: int) -> None:
    vae = WanVAE(**VAE)
    vae.load_state_dict({k: v.float() for k, v in load_file(FOLDER / "vae.safetensors").items()})
    vae.to(DEVICE)
    rng = random.Random(f"clips {shard}")
    texts, latents = [], []
    for _ in range(SHARD_CLIPS // BATCH_CLIPS):
        scenes = [random_scene(rng) for _ in range(BATCH_CLIPS)]
        video = torch.stack([clip_of(scene, rng, VIDEO_FRAMES) for scene in scenes])
        latents.append(Wan21().process_in(vae.encode(video.to(DEVICE))).half().cpu())
        texts += [scene.prompt for scene in scenes]
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
