"""Bytes that are held for videos of 5 seconds to 10 minutes, measured while they are sampled.

Compares the host's SamplerARVideo, a dense window of 21 frames, the reference's reservoir of 120
frames, and relaxed memory in each tier. What is measured is the storage of every living tensor that
was not there before sampling, between two model calls; on a GPU the allocator's own counters stand
beside it. The model is small, so sizes are also given in frames: bytes held over the bytes of one
latent frame's keys and values. Last line: JSON.
"""

import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass, replace

import common
import torch
from common import CHUNK_FRAMES, DEVICE, Shape
from reservoir import ReservoirPlan

from relax_memory.host.model.attention import with_memory
from relax_memory.host.options import remembered
from relax_memory.host.sampling.prompts import Film, Prompts
from relax_memory.host.sampling.sampler import MemorySampler
from relax_memory.memory.bank import Bank
from relax_memory.memory.storage import Storage
from relax_memory.policies import RelaxedMemory, WindowMemory
from relax_memory.storyboard import Storyboard

SMALL = Shape(dim=384, ffn_dim=768, layers=8, width=48, height=32, text_tokens=2, dtype="bfloat16")
VIDEOS = {"5 s": 21, "30 s": 120, "60 s": 240, "10 min": 2400}
LOOKS = 8  # how often a run is measured; the largest reading counts
NATIVE = "host's SamplerARVideo"
NATIVE_CHUNKS = 40  # its cache is allocated whole before the first chunk, so this is enough of it


class EnoughError(Exception):
    """Everything was measured; the rest of the video need not be made."""


class ReservoirSampler(MemorySampler):
    """Our sampler with the reference's bookkeeping."""

    def film(self, guider, like: torch.Tensor) -> Film:
        storyboard = Storyboard(
            remembered(guider.model_patcher).policy,
            total_frames=like.shape[2],
            chunk_frames=self.chunk_frames,
            whole_chunks=False,
            plan_type=ReservoirPlan,
        )
        return Film(storyboard, Prompts(storyboard, {}))


def subjects(model) -> dict[str, tuple]:
    """Model and sampler of each line of the table."""
    ours = MemorySampler(CHUNK_FRAMES)
    on_device = Storage(device="gpu")
    window = with_memory(model, WindowMemory(window_frames=21 - CHUNK_FRAMES), on_device)
    reference = with_memory(model, RelaxedMemory(), on_device)
    lines = {
        NATIVE: (model, common.native_sampler()),
        "dense window, 21 frames": (window, ours),
        "reservoir, 120 frames": (reference, ReservoirSampler(CHUNK_FRAMES)),
    }
    for device in ("gpu", "cpu"):
        for dtype in ("model", "fp8"):
            storage = Storage(device=device, dtype=dtype)
            relaxed = with_memory(model, RelaxedMemory(), storage)
            lines[f"relaxed memory, {device}, {dtype}"] = (relaxed, ours)
    return lines


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes of living tensors: on the device and on the CPU, of the video itself, and in banks.

    Where the device is the CPU, everything counts as on the device.
    """

    device_bytes: int
    cpu_bytes: int
    video_bytes: int
    bank_bytes: int

    @property
    def bytes(self) -> int:
        return self.device_bytes + self.cpu_bytes


class Gauge:
    """Reads what has come to life since it was made; `gc.freeze` hides all that is older."""

    def __init__(self) -> None:
        gc.collect()
        self._older = {tensor.untyped_storage().data_ptr() for tensor in living_tensors()}
        gc.freeze()

    def read(self) -> Held:
        device, cpu, video = {}, {}, {}
        for tensor in living_tensors():
            storage = tensor.untyped_storage()
            is_video = tensor.ndim == 5 and tensor.shape[1] == common.LATENT_CHANNELS
            side = video if is_video else device if tensor.device.type == DEVICE.type else cpu
            side[storage.data_ptr()] = storage.nbytes()
        banks = [thing for thing in gc.get_objects() if type(thing) is Bank]
        return Held(
            device_bytes=sum(device[p] for p in device.keys() - video.keys() - self._older),
            cpu_bytes=sum(cpu[p] for p in cpu.keys() - video.keys() - self._older),
            video_bytes=sum(video.values()),
            bank_bytes=sum(bank.bytes for bank in banks),
        )


def living_tensors() -> list[torch.Tensor]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]


def measure(model, sampler, shape: Shape, frames: int, most_chunks: int | None = None) -> dict:
    """The largest reading of one video, steps reduced to one: memory does not depend on them."""
    common.comfy.model_management.load_models_gpu([model])
    gauge, start_bytes = Gauge(), 0
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start_bytes = torch.cuda.memory_allocated()
    chunks = min(-(-frames // CHUNK_FRAMES), most_chunks or frames)
    at = {max(1, chunks * look // LOOKS) for look in range(1, LOOKS + 1)}
    readings, allocated = [], []
    clock = common.ChunkClock(steps=1)

    def on_step() -> None:
        clock()
        if clock.chunks in at:
            readings.append(gauge.read())
            if DEVICE.type == "cuda":
                allocated.append(torch.cuda.memory_allocated() - start_bytes)
        if clock.chunks == chunks:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        common.sample(model, sampler, shape, frames, on_step, sigmas=(1.0, 0.0))
    gc.unfreeze()
    held = max(readings, key=lambda reading: reading.bytes)
    figures = {
        "held_bytes": held.bytes,
        "in_banks_bytes": held.bank_bytes,
        "video_bytes": held.video_bytes,
        "held_frames": round(held.bytes / shape.frame_bytes, 1),
    }
    if DEVICE.type == "cuda":
        figures["device_bytes"] = held.device_bytes
        figures["pinned_bytes"] = held.cpu_bytes
        figures["allocator_bytes"] = max(allocated)
        figures["allocator_peak_bytes"] = torch.cuda.max_memory_allocated() - start_bytes
    return figures


def print_table(title: str, table: dict[str, dict], cell: Callable[[dict], str]) -> None:
    print(f"\n{title}")
    videos = next(iter(table.values()))
    print(f"{'':28}" + "".join(f"{video:>20}" for video in videos))
    for name, row in table.items():
        print(f"{name:28}" + "".join(f"{cell(figures):>20}" for figures in row.values()))


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--videos", nargs="+", choices=VIDEOS, default=list(VIDEOS))
    parser.add_argument("--layers", type=int, default=SMALL.layers)
    options = parser.parse_args()

    shape = replace(SMALL, layers=options.layers)
    model = common.causal_model(shape)
    table = {}
    for name, (subject, sampler) in subjects(model).items():
        table[name], most_chunks = {}, NATIVE_CHUNKS if name == NATIVE else None
        for video in options.videos:
            figures = measure(subject, sampler, shape, VIDEOS[video], most_chunks)
            print(f"{name}, {video}: {figures['held_bytes']:,} bytes", flush=True)
            table[name][video] = figures
    print(f"\n{common.device_name()}; {shape.frame_bytes:,} bytes for each latent frame")
    print_table(
        "MB held beside the weights and the video's own latents, and in frames:",
        table,
        lambda held: f"{held['held_bytes'] / 1e6:.2f} ({held['held_frames']:.1f})",
    )
    print_table(
        'Frames of it in banks, which reservoir_device "cpu" keeps in host memory:',
        table,
        lambda held: f"{held['in_banks_bytes'] / shape.frame_bytes:.1f}",
    )
    frame_gigabytes = common.WAN_1_3B.frame_bytes / 1e9
    print_table(
        f"Arithmetic, not measured: frames held x {frame_gigabytes:.4f} GB, which is one latent\n"
        "frame of Wan 1.3B at 832x480 in bf16:",
        table,
        lambda held: f"{held['held_frames'] * frame_gigabytes:.1f} GB",
    )
    figures = {"frame_bytes": shape.frame_bytes, "latent_frames": VIDEOS, "held": table}
    common.finish(common.result("memory", shape, figures), save=options.save)


if __name__ == "__main__":
    main()
