"""What a rollout was made from that had to be computed first, beside its chunks as one file.

Another device or precision computes embeddings and prefix latents with other last bits; with those
of the first run a rollout goes on bit for bit. The file is no more than a help: without it, or
when it is damaged, a rollout is found by equal inputs alone.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from .atomic import write_whole

INPUTS = "inputs"
MOST_BYTES = 2**25  # prompts and a picture; a long video is in the chunk files already


def write_inputs(folder: Path, inputs: Mapping[str, Sequence[Tensor]]) -> None:
    """Keep the tensors of the first inputs by their names, up to a large one. Raises OSError.

    Compressed, because most of an embedding are zeros after the last word.
    """
    tensors, taken = {}, 0
    for name, held in inputs.items():
        taken += sum(tensor.nbytes for tensor in held)
        if taken > MOST_BYTES:
            break
        for index, tensor in enumerate(held):
            tensors[f"{name} {index}"] = tensor.detach().cpu().contiguous()
    if tensors:
        write_whole(folder / INPUTS, zlib.compress(safetensors.torch.save(tensors), level=1))


def read_inputs(folder: Path, name: str, like: Sequence[Tensor]) -> list[Tensor] | None:
    """The tensors of an input; None where there are none of the shapes of `like`."""
    try:
        data = zlib.decompressobj().decompress((folder / INPUTS).read_bytes(), 2 * MOST_BYTES)
        saved = safetensors.torch.load(data)
        tensors = [saved[f"{name} {index}"] for index in range(len(like))]
    except (OSError, KeyError, zlib.error, SafetensorError):
        return None
    pairs = zip(tensors, like, strict=True)
    return tensors if all(tensor.shape == other.shape for tensor, other in pairs) else None
