"""A thousand chunks with a small model: does anything grow?

Resident memory, the allocator, living tensors, open handles and the time per chunk, read every few
chunks; after warm-up a straight line is laid through each by least squares and its slope reported.
The paper's settings on the device and in host memory, and the dense window. Last line: JSON.

What a rollout returns grows by design: its trace, a few kilobytes of plain numbers a chunk. The
video's latents are allocated at full length before the first chunk.
"""

import ctypes
import gc
import statistics
import sys

import common
import psutil
import torch
from common import CHUNK_FRAMES, DEVICE, Shape, median

from relax_memory.host.model.attention import with_memory
from relax_memory.host.sampling.sampler import MemorySampler
from relax_memory.memory.storage import Storage
from relax_memory.policies import RelaxedMemory, WindowMemory

SMALL = Shape(dim=128, ffn_dim=256, layers=2, width=48, height=32, text_tokens=4, dtype="float32")
PER_CHUNKS = 100  # slopes are per so many chunks
RUNS = {
    "relaxed, gpu": (RelaxedMemory(), Storage(device="gpu")),
    "relaxed, cpu": (RelaxedMemory(), Storage(device="cpu")),
    "relaxed, cpu, fp8": (RelaxedMemory(), Storage(device="cpu", dtype="fp8")),
    "dense window": (WindowMemory(), Storage(device="gpu")),
}


class MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc, in which 4 is `hblkhd` and 7 is `uordblks`."""

    _fields_ = (("sizes", ctypes.c_size_t * 10),)


def malloc_bytes() -> int | None:
    """Bytes that the C allocator has handed out, mapped and small; None where it cannot say."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError):
        return None
    mallinfo.restype = MallocInfo
    info = mallinfo()
    return info.sizes[4] + info.sizes[7]


def open_handles(process: psutil.Process) -> int:
    return process.num_handles() if sys.platform == "win32" else process.num_fds()


def living_tensors() -> tuple[int, int]:
    """How many tensors are alive and the bytes of their storages."""
    storages, count = {}, 0
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            count += 1
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return count, sum(storages.values())


class Gauge:
    """Called after every step; reads everything every `every` chunks."""

    def __init__(self, every: int) -> None:
        self._clock = common.ChunkClock()
        self._every = every
        self._process = psutil.Process()
        self._read_at = 0
        self.readings: dict[str, list[tuple[int, float]]] = {}

    def __call__(self) -> None:
        self._clock()
        chunks = self._clock.chunks
        if chunks % self._every == 0 and chunks > self._read_at:
            self._read_at = chunks
            for name, value in read(self._process).items():
                self.readings.setdefault(name, []).append((chunks, value))

    @property
    def seconds(self) -> list[tuple[int, float]]:
        """Median seconds of a chunk between two readings, by the chunk of the later one."""
        seconds, every = self._clock.seconds, self._every
        ends = range(every, len(seconds) + 1, every)  # the first chunk holds up for the reading
        return [(end, median(seconds[end - every + 1 : end])) for end in ends]


def read(process: psutil.Process) -> dict[str, float]:
    """Everything that must not grow."""
    gc.collect()
    tensors, tensor_bytes = living_tensors()
    figures = {
        "resident_bytes": process.memory_info().rss,
        "tensors": tensors,
        "tensor_bytes": tensor_bytes,
        "open_handles": open_handles(process),
    }
    if (allocated := malloc_bytes()) is not None:
        figures["malloc_bytes"] = allocated
    if DEVICE.type == "cuda":
        figures["cuda_allocated_bytes"] = torch.cuda.memory_allocated()
        figures["cuda_reserved_bytes"] = torch.cuda.memory_reserved()
    return figures


def slope(points: list[tuple[int, float]]) -> float:
    """Growth per hundred chunks of the line of least squares through `(chunk, value)`."""
    chunks, values = zip(*points, strict=True)
    fit = statistics.linear_regression(chunks, [float(value) for value in values])
    return float(f"{PER_CHUNKS * fit.slope:.4g}")


def measure(model, chunks: int, warm_up: int, every: int) -> dict:
    """One rollout: what each reading began and ended with after warm-up, and its slope."""
    gauge = Gauge(every)
    common.sample(model, MemorySampler(CHUNK_FRAMES), SMALL, CHUNK_FRAMES * chunks, gauge)
    figures = {}
    for name, points in gauge.readings.items():
        points = [point for point in points if point[0] >= warm_up]
        figures[name] = {
            "first": points[0][1],
            "last": points[-1][1],
            "slope_per_100_chunks": slope(points),
        }
    seconds = gauge.seconds[warm_up // every :]
    middle = median(value for _, value in seconds)
    figures["seconds_per_chunk"] = {
        "first": seconds[0][1],
        "last": seconds[-1][1],
        "median": middle,
        "slope_per_100_chunks_percent": round(100 * slope(seconds) / middle, 3),
    }
    return figures


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--chunks", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=200, help="chunks left out of the slopes")
    parser.add_argument("--every", type=int, default=20, help="chunks between two readings")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    options = parser.parse_args()

    model = common.causal_model(SMALL)
    print(f"{common.device_name()}; {options.chunks} chunks, the first {options.warm_up} left out")
    runs = {}
    for name in options.runs:
        policy, storage = RUNS[name]
        runs[name] = measure(
            with_memory(model, policy, storage), options.chunks, options.warm_up, options.every
        )
        print(name)
        for what, figures in runs[name].items():
            print(f"  {what:22}" + ", ".join(f"{key} {value}" for key, value in figures.items()))
    figures = {"chunks": options.chunks, "warm_up_chunks": options.warm_up, "runs": runs}
    common.finish(common.result("soak", SMALL, figures), save=options.save)


if __name__ == "__main__":
    main()
