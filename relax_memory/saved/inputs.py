"""What a rollout was made from that had to be computed first, beside its chunks as one file.

Another device or precision computes embeddings and prefix latents with other last bits; with those
of the first run a rollout goes on bit for bit. The file is no more than a help: without it, or
when it is damaged, a rollout is found by equal inputs alone. An input is named by its content, so
that each is kept once, whichever shots say it.
"""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .atomic import checksum, write_whole

INPUTS = "inputs"
MOST_BYTES = 2**25  # of one: a prompt, a picture; a long video is in the chunk files already
MOST_PACKED_BYTES = 2**27  # of all together; a prompt of Wan's width takes 2 MB

Packed = dict[str, bytes]  # compressed inputs by the names of their content


def name_of(tensors: Sequence[Tensor]) -> str:
    """The name of an input by its content."""
    return checksum(_data(tensors))


def write_inputs(folder: Path, inputs: Iterable[Sequence[Tensor]]) -> None:
    """Keep these inputs too, but none that is large. Raises OSError.

    Compressed, because most of an embedding are zeros after the last word. What was kept before
    stays as long as there is room for it.
    """
    before = read_inputs(folder)
    packed: dict[str, bytes] = {}
    for tensors in inputs:
        if sum(tensor.nbytes for tensor in tensors) <= MOST_BYTES:
            data = _data(tensors)
            name = checksum(data)
            packed[name] = before.get(name) or zlib.compress(data, level=1)
    if packed.keys() <= before.keys():
        return
    kept, taken = {}, 0
    for name, data in (packed | before).items():
        taken += len(data)
        if taken <= MOST_PACKED_BYTES:
            kept[name] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    write_whole(folder / INPUTS, safetensors.torch.save(kept))


def read_inputs(folder: Path) -> Packed:
    """All that are kept; none where the file is missing or damaged."""
    try:
        saved = safetensors.torch.load((folder / INPUTS).read_bytes())
    except (OSError, SafetensorError):
        return {}
    return {name: bytes(data.numpy()) for name, data in saved.items()}


def unpacked(name: str, packed: Packed) -> list[Tensor]:
    """The tensors of an input; none where it is damaged."""
    try:
        data = zlib.decompressobj().decompress(packed[name], 2 * MOST_BYTES)
    except zlib.error:
        return []
    if checksum(data) != name:
        return []
    tensors = safetensors.torch.load(data)
    return [tensors[key] for key in sorted(tensors, key=int)]


def _data(tensors: Sequence[Tensor]) -> bytes:
    """All bytes of an input; copied, because two of its tensors may be one."""
    copies = (t.detach().cpu().clone(memory_format=torch.contiguous_format) for t in tensors)
    return safetensors.torch.save({str(index): tensor for index, tensor in enumerate(copies)})
