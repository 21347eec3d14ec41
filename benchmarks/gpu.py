"""The figures of one GPU at the real shapes of Wan 1.3B, 832x480, with random weights.

Time per chunk of relaxed memory in each tier, of a dense window of 21 frames, and of the host's
SamplerARVideo as its cache grows; self-attention, its kernel and everything else apart; peak
memory; the floor that arithmetic sets; with and without the host's torch.compile node. Every time
is the median of several chunks after warm-up, all in this one run, which takes less than 8 minutes
on a data-centre GPU. A section that fails is recorded with its error and the rest goes on; after
every section what is known so far is written to --out. `--toy` runs everything at a tiny size, on
the CPU too. Last line: JSON.

On a bare machine with PyTorch 2.11 it needs this repository, the source of ComfyUI, and these of
its requirements: av, comfy-aimdo, comfy-kitchen, einops, pillow, psutil, pyyaml, safetensors,
scipy, tokenizers, torchsde with trampoline, torchvision, tqdm, transformers; for the compiled
section a C compiler and triton too. GIT_COMMIT names the commit where there is no git.

    COMFYUI_PATH=/path/to/ComfyUI PYTHONPATH=/path/to/packages GIT_COMMIT=... \\
        python benchmarks/gpu.py --out gpu.json
"""

import contextlib
import gc
import itertools
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import common
import torch
from comfy.ldm.wan import ar_model
from common import CHUNK_FRAMES, DEVICE, SIGMAS, WAN_1_3B, Shape, elapsed, median, moment

from relax_memory.host.model import attention as memory_attention
from relax_memory.host.model.attention import with_memory
from relax_memory.host.sampling.sampler import MemorySampler
from relax_memory.memory.storage import Storage
from relax_memory.policies import RelaxedMemory, WindowMemory

PASSES = len(SIGMAS)  # denoising steps and the clean pass
VIDEO_FRAMES = 4 * CHUNK_FRAMES
WINDOW_FRAMES = 21
DEVICES = ("gpu", "cpu")
TIERS = tuple((device, dtype) for dtype in ("model", "fp8") for device in DEVICES)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large and how long; lengths are chunks, the first number of a pair is warm-up."""

    shape: Shape
    reservoir_frames: int
    tier_rounds: int
    steady_chunks: int
    split_chunks: tuple[int, int]
    window_chunks: tuple[int, int]
    compiled_chunks: tuple[int, int]
    native_frames: int
    native_split_frames: int
    matmul_size: int
    compile_backend: str


REAL = Scale(
    shape=WAN_1_3B,
    reservoir_frames=120,
    tier_rounds=2,
    steady_chunks=18,
    split_chunks=(8, 8),
    window_chunks=(9, 12),
    compiled_chunks=(6, 12),
    native_frames=120,
    native_split_frames=63,
    matmul_size=8192,
    compile_backend="inductor",
)
TOY = Scale(
    shape=Shape(
        dim=128, ffn_dim=256, layers=2, width=48, height=32, text_tokens=4, dtype="float32"
    ),
    reservoir_frames=15,
    tier_rounds=1,
    steady_chunks=3,
    split_chunks=(3, 3),
    window_chunks=(7, 3),
    compiled_chunks=(3, 3),
    native_frames=24,
    native_split_frames=24,
    matmul_size=256,
    compile_backend="eager",
)


@dataclass(frozen=True)
class Video:
    """What one video took: seconds of each chunk and the most bytes of GPU memory."""

    seconds: list[float]
    peak_bytes: int

    def figures(self, warm_up: int) -> dict:
        """Figures of the chunks after the first `warm_up`."""
        chunk = median(self.seconds[warm_up:])
        return {
            "seconds_per_chunk": chunk,
            "video_frames_per_second": float(f"{VIDEO_FRAMES / chunk:.4g}"),
            "chunks_measured": len(self.seconds) - warm_up,
            "peak_bytes": self.peak_bytes,
        }


class Bench:
    """The models that are measured, and one method for each section of the result."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.shape = scale.shape
        self.model = common.causal_model(scale.shape)
        self.ours = MemorySampler(CHUNK_FRAMES)
        window = WindowMemory(window_frames=WINDOW_FRAMES - CHUNK_FRAMES)
        self.window = with_memory(self.model, window, Storage(device="gpu"))

    def relaxed(self, device: str = "gpu", dtype: str = "model"):
        policy = RelaxedMemory(reservoir_frames=self.scale.reservoir_frames)
        return with_memory(self.model, policy, Storage(device=device, dtype=dtype))

    def video(self, model, sampler, frames: int, clock: Callable | None = None) -> Video:
        """Sample one video, with GPU memory as empty as a fresh process would have it."""
        common.comfy.model_management.load_models_gpu([model])
        gc.collect()
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        clock = clock or common.ChunkClock()
        latents = common.sample(model, sampler, self.shape, frames, clock)
        if not latents.isfinite().all():
            raise FloatingPointError("the latents are not finite")
        peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0
        return Video(clock.seconds, peak)

    def matmul(self) -> dict:
        """The rate of a large matrix product, and of the model's largest one."""
        size, length = self.scale.matmul_size, CHUNK_FRAMES * self.shape.tokens
        sizes = {"square": (size, size, size), "ffn": (length, self.shape.dim, self.shape.ffn_dim)}
        figures = {}
        for name, (rows, inner, columns) in sizes.items():
            a = torch.randn(rows, inner, device=DEVICE).to(self.shape.torch_dtype)
            b = torch.randn(inner, columns, device=DEVICE).to(self.shape.torch_dtype)
            seconds = repeat(lambda a=a, b=b: a @ b)
            figures[f"{name}_shape"] = [rows, inner, columns]
            figures[f"{name}_teraflop_per_second"] = 2e-12 * rows * inner * columns / seconds
        return figures

    def kernel(self) -> dict:
        """The host's attention alone, for a chunk that attends so many frames."""
        length, heads = CHUNK_FRAMES * self.shape.tokens, self.shape.heads
        figures = {}
        for frames in (7, WINDOW_FRAMES, 60, self.scale.native_frames):
            sizes = (length, frames * self.shape.tokens, frames * self.shape.tokens)
            query, key, value = (
                torch.randn(1, size, self.shape.dim, device=DEVICE).to(self.shape.torch_dtype)
                for size in sizes
            )
            seconds = repeat(
                lambda q=query, k=key, v=value: common.optimized_attention(q, k, v, heads=heads)
            )
            figures[f"seconds_{frames}_frames"] = seconds
        ratio = figures[f"seconds_{WINDOW_FRAMES}_frames"] / figures["seconds_7_frames"]
        return figures | {"window_over_relaxed": round(ratio, 3)}

    def tiers(self) -> dict:
        """Relaxed memory with a full reservoir in every tier, in alternating rounds."""
        warm_up = -(-self.scale.reservoir_frames // CHUNK_FRAMES) + 2
        frames = CHUNK_FRAMES * (warm_up + self.scale.steady_chunks)
        seconds = {tier: [] for tier in TIERS}
        peaks = {}
        for _ in range(self.scale.tier_rounds):
            for tier in TIERS:
                video = self.video(self.relaxed(*tier), self.ours, frames)
                seconds[tier] += video.seconds[warm_up:]
                peaks[tier] = max(peaks.get(tier, 0), video.peak_bytes)
        figures = {" ".join(t): Video(seconds[t], peaks[t]).figures(0) for t in TIERS}
        on_gpu, on_cpu = (figures[f"{device} model"]["seconds_per_chunk"] for device in DEVICES)
        figures["cpu_slower_percent"] = round(100 * (on_cpu / on_gpu - 1), 2)
        return figures

    def dense_window(self) -> dict:
        """A window of 21 frames, the chunk included."""
        warm_up, chunks = self.scale.window_chunks
        return self.video(self.window, self.ours, CHUNK_FRAMES * (warm_up + chunks)).figures(
            warm_up
        )

    def native(self) -> dict:
        """The host's sampler: the median of three chunks around each size of its cache."""
        frames = self.scale.native_frames
        video = self.video(self.model, common.native_sampler(), frames)
        last = len(video.seconds) - 2
        growth = {
            str(CHUNK_FRAMES * (chunk + 1)): median(video.seconds[chunk - 1 : chunk + 2])
            for chunk in sorted({2, last, *range(6, last, 7)})
        }
        return {"seconds_per_chunk_by_frames_attended": growth, "peak_bytes": video.peak_bytes}

    def split(self) -> dict:
        """Where a chunk's time goes, in passes of their own because reading it costs a little."""
        warm_up, chunks = self.scale.split_chunks
        window_warm_up = self.scale.window_chunks[0]
        native_frames = self.scale.native_split_frames
        native_warm_up = native_frames // CHUNK_FRAMES - 3
        return {
            "relaxed": self._split(self.relaxed(), self.ours, warm_up, chunks),
            "dense window": self._split(self.window, self.ours, window_warm_up, chunks),
            f"native, {native_frames} frames": self._split(
                self.model, common.native_sampler(), native_warm_up, 3
            ),
        }

    def _split(self, model, sampler, warm_up: int, chunks: int) -> dict:
        watch = Watch()
        blocks = model.model.diffusion_model.blocks
        with watch.modules([block.self_attn for block in blocks]), watch.kernels():
            video = self.video(model, sampler, CHUNK_FRAMES * (warm_up + chunks), watch)
        figures = {
            f"{name}_seconds": median(watch.seconds_of(name)[warm_up:])
            for name in ("self_attention", "kernel")
        }
        total = median(video.seconds[warm_up:])
        figures["everything_else_seconds"] = median([total - figures["self_attention_seconds"]])
        figures["seconds_per_chunk"] = total
        return figures

    def compiled(self) -> dict:
        """Relaxed memory through the host's compile node; the first chunks compile."""
        from comfy_extras.nodes_torch_compile import TorchCompileModel
        from torch._dynamo.utils import counters

        warm_up, chunks = self.scale.compiled_chunks
        frames = CHUNK_FRAMES * (warm_up + chunks)
        plain = self.video(self.relaxed(), self.ours, frames)
        torch._dynamo.reset()
        counters.clear()
        (model,) = TorchCompileModel.execute(self.relaxed(), self.scale.compile_backend).result
        video = self.video(model, self.ours, frames)
        figures = {
            "plain": plain.figures(warm_up),
            "compiled": video.figures(warm_up),
            "first_chunks_seconds": [round(seconds, 3) for seconds in video.seconds[:warm_up]],
            "graphs": counters["stats"]["unique_graphs"],
        }
        torch._dynamo.reset()
        ratio = figures["plain"]["seconds_per_chunk"] / figures["compiled"]["seconds_per_chunk"]
        return figures | {"speedup": round(ratio, 3)}


SECTIONS = ("matmul", "kernel", "tiers", "dense_window", "split", "native", "compiled")


class Watch(common.ChunkClock):
    """Also sums the time in self-attention modules and in the kernels that they call."""

    def __init__(self) -> None:
        super().__init__()
        self._spans = {"self_attention": [], "kernel": []}
        self._inside = False

    @contextlib.contextmanager
    def modules(self, modules: list[torch.nn.Module]) -> Iterator[None]:
        """Time these self-attention modules, whatever their `forward` is."""
        starts = []

        def begin(*_):
            self._inside = True
            starts.append(moment())

        def end(*_):
            self._inside = False
            self._spans["self_attention"].append((self.chunks, starts.pop(), moment()))

        with contextlib.ExitStack() as hooks:
            for module in modules:
                hooks.callback(module.register_forward_pre_hook(begin).remove)
                hooks.callback(module.register_forward_hook(end).remove)
            yield

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        """Time what the modules call, and leave cross-attention alone."""
        original = common.optimized_attention

        def timed(*args, **kwargs):
            if not self._inside:
                return original(*args, **kwargs)
            return self._time("kernel", original, args, kwargs)

        callers = (memory_attention, ar_model)
        try:
            for caller in callers:
                caller.optimized_attention = timed
            yield
        finally:
            for caller in callers:
                caller.optimized_attention = original

    def seconds_of(self, name: str) -> list[float]:
        """Seconds of each chunk that were spent in `name`."""
        common.synchronize()
        sums = [0.0] * self.chunks
        for chunk, start, end in self._spans[name]:
            if chunk < self.chunks:  # what follows the last step of all belongs to no chunk
                sums[chunk] += elapsed(start, end)
        return sums

    def _time(self, name: str, function: Callable, args: tuple, kwargs: dict):
        start = moment()
        out = function(*args, **kwargs)
        self._spans[name].append((self.chunks, start, moment()))
        return out


def repeat(function: Callable, times: int = 20, warm_up: int = 5) -> float:
    """Median seconds of a call; the GPU stays busy between calls."""
    with torch.inference_mode():
        for _ in range(warm_up):
            function()
        marks = [moment()]
        for _ in range(times):
            function()
            marks.append(moment())
    common.synchronize()
    return median(elapsed(*pair) for pair in itertools.pairwise(marks))


def conclusions(figures: dict, shape: Shape) -> dict:
    """The ratios that the targets are about, from what was measured; nothing where that failed."""
    found = {}
    with contextlib.suppress(KeyError):
        rate = 1e12 * figures["matmul"]["square_teraflop_per_second"]
        for name, frames, section in (
            ("relaxed", 7, figures["tiers"]["gpu model"]),
            ("dense_window", WINDOW_FRAMES, figures["dense_window"]),
        ):
            floor = PASSES * shape.pass_flop(frames) / rate
            found[f"{name}_pass_teraflop"] = shape.pass_flop(frames) / 1e12
            found[f"{name}_floor_seconds"] = floor
            found[f"{name}_over_floor"] = round(section["seconds_per_chunk"] / floor, 3)
    with contextlib.suppress(KeyError):
        window = figures["dense_window"]["seconds_per_chunk"]
        relaxed = figures["tiers"]["gpu model"]["seconds_per_chunk"]
        found["chunk_window_over_relaxed"] = round(window / relaxed, 3)
    with contextlib.suppress(KeyError):
        split = figures["split"]
        for part in ("kernel", "self_attention"):
            names = ("dense window", "relaxed")
            window, relaxed = (split[name][f"{part}_seconds"] for name in names)
            found[f"{part}_window_over_relaxed"] = round(window / relaxed, 3)
    return found


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--toy", action="store_true", help="tiny sizes, for any machine")
    parser.add_argument("--out", type=Path, help="write here what is known after each section")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--minutes", type=float, default=7.0, help="start no section after this")
    options = parser.parse_args()

    start = time.perf_counter()
    scale = TOY if options.toy else REAL
    figures = {}
    outcome = common.result("gpu-toy" if options.toy else "gpu", scale.shape, figures)
    print(f"{common.device_name()}, {common.optimized_attention.__name__}", flush=True)
    bench = Bench(scale)
    figures["weights_bytes"] = bench.model.model_size()
    for name in SECTIONS:
        if name not in options.only:
            continue
        minutes = (time.perf_counter() - start) / 60
        if minutes > options.minutes:
            figures[name] = {"error": f"not started after {minutes:.1f} minutes"}
        else:
            figures[name] = attempt(getattr(bench, name))
        figures["conclusions"] = conclusions(figures, scale.shape)
        figures["minutes"] = round((time.perf_counter() - start) / 60, 2)
        print(f"{name} ({figures['minutes']} min): {json.dumps(figures[name])}", flush=True)
        if options.out:
            options.out.write_text(common.one_line_a_figure(outcome) + "\n")
    print("conclusions:", json.dumps(figures["conclusions"], indent=1))
    common.finish(outcome, save=options.save)


def attempt(section: Callable[[], dict]) -> dict:
    """A section's figures, or what went wrong: the other sections are worth having."""
    try:
        return section()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:500]}


if __name__ == "__main__":
    main()
