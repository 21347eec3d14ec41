"""Writes small weights in the Wan 2.1 format, from a fixed seed, into the host's model folders.

They stand for the files that shared workflows name, and are loaded by the host's ordinary loaders.
No text encoder is small enough to fit Wan's text width of 4096, so the conditioning is stored as
the host's training nodes store it. Run with the host first on the path, the folder as argument.
"""

import json
import sys
from pathlib import Path

import torch
from comfy.cli_args import args
from safetensors.torch import save_file

args.cpu = True  # before anything of the host looks for a GPU

import small  # noqa: E402

NAME = "relax_forcing_small"
TEXT_SHAPE = (1, 16, small.TEXT_DIM)
LAYERS, VAE_DIM = 4, 4


def main(data: Path) -> None:
    """Write what is missing or older than this file."""
    targets = {
        data / "models/diffusion_models" / f"{NAME}.safetensors": write_transformer,
        data / "models/vae" / f"{NAME}_vae.safetensors": write_vae,
        data / "datasets" / NAME / "metadata.json": write_conditioning,
        data / "output" / NAME / "metadata.json": write_conditioning,  # where ComfyUI 0.26 looks
    }
    for path, write in targets.items():
        if not path.exists() or path.stat().st_mtime < Path(__file__).stat().st_mtime:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            print(f"Wrote {path}")


def write_transformer(path: Path) -> None:
    save_weights(small.transformer(layers=LAYERS), path)


def write_vae(path: Path) -> None:
    weights = small.vae(dim=VAE_DIM)
    weights["decoder.head.2.weight"] *= 0.4  # colours that are not clipped
    save_weights(weights, path)


def write_conditioning(path: Path) -> None:
    """The embeddings of one prompt, as a training dataset of one entry."""
    embeddings = torch.randn(TEXT_SHAPE, generator=torch.Generator().manual_seed(0))
    entry = {
        "latents": [{"samples": torch.zeros(1, 16, 1, 2, 2)}],
        "conditioning": [[[embeddings, {}]]],
    }
    torch.save(entry, path.with_name("shard_0000.pkl"))
    path.write_text(json.dumps({"num_samples": 1, "num_shards": 1, "shard_size": 1}))


def save_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write them in one move."""
    part = path.with_suffix(".part")
    save_file(weights, part)
    part.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
