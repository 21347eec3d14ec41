"""One finished chunk as a safetensors file that never changes, named by number and checksum.

The checksum in the name covers all bytes, so that a damaged file is never taken for a sound one.
Knows neither the rollout around it nor what a key was made from.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..disk import patiently
from ..trace import ChunkTrace
from .atomic import checksum, write_whole

FORMAT = 1
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # that a host samples in
LONGEST_HEADER = 10**7  # bytes; traces of the largest batches take some thousands
UNUSABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError)
FILE_NAME = re.compile(r"(\d{6})-([0-9a-f]{16})\.safetensors")


def chunk_keys(base: str, parts: Iterable[str]) -> list[str]:
    """What each chunk is made from, as a chain: a change spoils the first chunk that it affects
    and all that follow.

    Args:
        base: fingerprint of what all chunks have in common.
        parts: fingerprint of what else each chunk is made from, in order.
    """
    keys = []
    for part in parts:
        base = hashlib.sha256(f"{base} {part}".encode()).hexdigest()
        keys.append(base)
    return keys


@dataclass(frozen=True, kw_only=True)
class SavedChunk:
    """Kept latents `[B, C, length_frames, H, W]` of a chunk and what its rows read.

    `follows` is the key of the chunk before, "" for the first. `noisy` is what the last step was
    given, where that step is remembered.
    """

    key: str
    follows: str
    latents: Tensor
    trace: ChunkTrace
    rows: tuple[str, ...]
    noisy: Tensor | None = None

    def continues(self, before: "SavedChunk | None") -> bool:
        """Whether it was made after this chunk, or after none."""
        if before is None:
            return not self.follows
        end, made = before.trace.frames[-1] + 1, before.latents
        sizes = [latents[:, :, :0].shape for latents in (self.latents, made)]
        place = self.follows, self.trace.frames[0], self.latents.dtype, sizes[0]
        return place == (before.key, end, made.dtype, sizes[1])

    def write(self, folder: Path) -> None:
        """Put the chunk into `folder`, whole or not at all. Raises OSError."""
        record = {
            "format": FORMAT,
            "key": self.key,
            "follows": self.follows,
            "trace": asdict(self.trace),
            "rows": self.rows,
        }
        tensors = {"latents": self.latents.cpu().contiguous()}
        if self.noisy is not None:
            tensors["noisy"] = self.noisy.cpu().contiguous()
        data = safetensors.torch.save(tensors, {"relax_forcing": json.dumps(record)})
        write_whole(folder / f"{self.trace.index:06d}-{checksum(data)}.safetensors", data)

    @classmethod
    def read(cls, path: Path) -> "SavedChunk":
        """The chunk in a file. Raises ValueError with the reason when it cannot be used."""
        index, expected = index_and_checksum(path.name)
        try:
            data = patiently(path.read_bytes)
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}).") from error
        if checksum(data) != expected:
            raise ValueError(f"{path} is damaged: its content does not fit its checksum.")
        try:
            chunk = cls._parse(data)
        except UNUSABLE as error:
            raise ValueError(f"{path} holds no chunk that can be used ({error}).") from error
        if chunk.trace.index != index:
            raise ValueError(f"{path} is out of place: it holds chunk {chunk.trace.index}.")
        return chunk

    @classmethod
    def _parse(cls, data: bytes) -> "SavedChunk":
        record = _record(data[8 : 8 + int.from_bytes(data[:8], "little")])
        told: dict[str, Any] = {name: _tuples(value) for name, value in record["trace"].items()}
        trace = ChunkTrace(**told)
        numbers, texts = (trace.index, *trace.frames, trace.scene), (trace.words, *record["rows"])
        if {*map(type, numbers)} != {int} or {*map(type, texts)} != {str}:
            raise ValueError(f"it says {numbers} and {texts} of itself")
        tensors = safetensors.torch.load(data)
        latents, noisy = tensors["latents"], tensors.get("noisy")
        for tensor in (latents, latents if noisy is None else noisy):
            if tensor.ndim != 5 or tensor.shape[2] != len(trace.frames):
                raise ValueError(f"{len(trace.frames)} frames have shape {list(tensor.shape)}")
            if tensor.dtype not in DTYPES:
                raise ValueError(f"its latents are {tensor.dtype}")
            if not torch.isfinite(tensor).all():
                raise ValueError("its latents are NaN or infinite")
        return cls(
            key=record["key"],
            follows=record["follows"],
            latents=latents,
            trace=trace,
            rows=tuple(record["rows"]),
            noisy=noisy,
        )


def index_and_checksum(name: str) -> tuple[int, str]:
    """What the name of a chunk's file says."""
    match = FILE_NAME.fullmatch(name)
    assert match is not None, f"{name} is no name of a chunk"
    return int(match[1]), match[2]


def peek_key(path: Path) -> str | None:
    """The key of a chunk by the beginning of its file, unchecked; None where it has none."""
    with suppress(OSError, *UNUSABLE), open(path, "rb") as file:
        return _record(file.read(min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER)))[
            "key"
        ]
    return None


def _record(header: bytes) -> dict:
    """What a chunk says of itself, in the header of its file."""
    record = json.loads(json.loads(header)["__metadata__"]["relax_forcing"])
    check_format(record)
    return record


def check_format(record: dict) -> None:
    """Raise ValueError unless this version of the pack can read such a record."""
    if record["format"] != FORMAT:
        raise ValueError(
            f"format {record['format']}, but this version of the pack reads {FORMAT}: use the "
            "version that wrote it"
        )


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
