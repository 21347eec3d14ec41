"""The figures of one GPU at the real shapes of Wan 1.3B, 832x480, with random weights.

Time per chunk of relaxed memory, of a dense window of 21 frames and of the host's SamplerARVideo as
its cache grows, one chunk of each in turn; the same of each tier; self-attention, its kernel and
everything else apart; peak memory against what was promised before; decoding in turns with
sampling; the floor that arithmetic sets; with the host's torch.compile node, by kernels and by CUDA
graphs. Every time is the median of several chunks after warm-up, all in this one run, which takes
less than 6 minutes: a section that no longer fits is left out by name, and one that is not over by
then is given up. One that fails is recorded with its error and the rest goes on; after every
section what is known so far is written to --out. `--toy` runs everything at a tiny size, on the CPU
too. Last line: JSON.

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
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import common
import folder_paths
import torch
from common import CHUNK_FRAMES, DEVICE, SIGMAS, WAN_1_3B, Shape, elapsed, median, moment
from interleaved import TurnClock, in_turns
from overlap import Sizes, Work
from watch import Watch

from relax_memory.host.model.attention import with_memory
from relax_memory.host.options import remembered
from relax_memory.host.room.budget import make_budget
from relax_memory.host.sampling.sampler import MemorySampler
from relax_memory.memory.storage import Storage
from relax_memory.policies import RelaxedMemory, WindowMemory
from relax_memory.storyboard import Storyboard

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
    steady_chunks: int
    split_chunks: tuple[int, int]
    window_chunks: tuple[int, int]
    decoded_chunks: int
    vae_dim: int
    compiled_chunks: tuple[int, int]
    native_frames: int
    native_split_frames: int
    matmul_size: int
    compile_backend: str


REAL = Scale(
    shape=WAN_1_3B,
    reservoir_frames=120,
    steady_chunks=16,
    split_chunks=(8, 8),
    window_chunks=(9, 12),
    decoded_chunks=6,
    vae_dim=96,
    compiled_chunks=(6, 12),
    native_frames=63,
    native_split_frames=63,
    matmul_size=8192,
    compile_backend="inductor",
)
TOY = Scale(
    shape=Shape(
        dim=128, ffn_dim=256, layers=2, width=48, height=32, text_tokens=4, dtype="float32"
    ),
    reservoir_frames=15,
    steady_chunks=3,
    split_chunks=(3, 3),
    window_chunks=(7, 3),
    decoded_chunks=2,
    vae_dim=4,
    compiled_chunks=(3, 3),
    native_frames=24,
    native_split_frames=24,
    matmul_size=256,
    compile_backend="eager",
)


@dataclass(frozen=True)
class Video:
    """What one video took: seconds of each chunk and the most bytes of GPU memory, as promised."""

    seconds: list[float]
    peak_bytes: int
    promised_bytes: int

    def memory(self) -> dict:
        """Peak against promise."""
        over = self.peak_bytes / self.promised_bytes - 1
        return {
            "peak_bytes": self.peak_bytes,
            "promised_bytes": self.promised_bytes,
            "peak_over_promise_percent": round(100 * over, 2),
        }


class Bench:
    """The models that are measured, and one method for each section of the result."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.shape = scale.shape
        self.model = common.causal_model(scale.shape)
        self.ours = MemorySampler(CHUNK_FRAMES)
        self.policy = RelaxedMemory(reservoir_frames=scale.reservoir_frames)
        self.dense = WindowMemory(window_frames=WINDOW_FRAMES - CHUNK_FRAMES)
        self.window = with_memory(self.model, self.dense, Storage(device="gpu"))

    def relaxed(self, device: str = "gpu", dtype: str = "model"):
        return with_memory(self.model, self.policy, Storage(device=device, dtype=dtype))

    def video(self, model, sampler, frames: int, clock: Callable | None = None) -> Video:
        """Sample one video, with GPU memory as empty as a fresh process would have it."""
        common.comfy.model_management.unload_all_models()
        before = forget_peak()
        promised = self.promised_bytes(model, frames)
        clock = clock or common.ChunkClock()
        self.sample(model, sampler, frames, clock)
        return Video(clock.seconds, peak_bytes() - before, promised)

    def sample(self, model, sampler, frames: int, clock: Callable) -> None:
        if not common.sample(model, sampler, self.shape, frames, clock).isfinite().all():
            raise FloatingPointError("the latents are not finite")

    def promised_bytes(self, model, frames: int) -> int:
        """What is said before of a run with a memory node; of others nothing is."""
        if "relax_forcing" not in model.model_options.get("transformer_options", {}):
            return 0
        made = remembered(model)
        film = Storyboard(made.policy, total_frames=frames, chunk_frames=CHUNK_FRAMES)
        size = {"rows": 1, "height": self.shape.height // 8, "width": self.shape.width // 8}
        return make_budget(model, film, made.storage, **size).promised_bytes

    def another(self, policy=None, storage=None):
        """A model with weights of its own, since runs of one and the same cannot take turns."""
        model = common.causal_model(self.shape)
        return model if policy is None else with_memory(model, policy, storage)

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

    def rivals(self) -> dict:
        """Relaxed memory, a window of 21 frames with the chunk, and the host's sampler, in turns.

        Of the host's sampler, the median of three chunks around each size of its cache.
        """
        warm_up, chunks = self.scale.window_chunks
        on_gpu = Storage(device="gpu")
        runs = {
            "relaxed": (self.another(self.policy, on_gpu), self.ours),
            "dense window": (self.another(self.dense, on_gpu), self.ours),
            "native": (self.another(), common.native_sampler()),
        }
        frames = CHUNK_FRAMES * (warm_up + chunks)
        seconds = self._in_turns({name: (*run, frames) for name, run in runs.items()})
        native = seconds.pop("native")
        last = len(native) - 2
        growth = {
            str(CHUNK_FRAMES * (chunk + 1)): median(native[chunk - 1 : chunk + 2])
            for chunk in sorted({2, last, *range(6, last, 7)})
        }
        figures = {name: per_chunk(each[warm_up:]) for name, each in seconds.items()}
        return figures | {"native": {"seconds_per_chunk_by_frames_attended": growth}}

    def tiers(self) -> dict:
        """Relaxed memory with a full reservoir in each tier, in turns; then its memory, alone."""
        warm_up = -(-self.scale.reservoir_frames // CHUNK_FRAMES) + 2
        frames = CHUNK_FRAMES * (warm_up + self.scale.steady_chunks)
        figures = {}
        for dtype in ("model", "fp8"):  # two at a time, so that their reservoirs fit
            runs = {
                f"{device} {dtype}": (
                    self.another(self.policy, Storage(device=device, dtype=dtype)),
                    self.ours,
                    frames,
                )
                for device in DEVICES
            }
            for name, seconds in self._in_turns(runs).items():
                figures[name] = per_chunk(seconds[warm_up:])
        on_gpu, on_cpu = (figures[f"{device} model"]["seconds_per_chunk"] for device in DEVICES)
        figures["cpu_slower_percent"] = round(100 * (on_cpu / on_gpu - 1), 2)
        return figures

    def memory(self) -> dict:
        """The most bytes of a run in each tier, alone on the GPU, against the promise."""
        if DEVICE.type != "cuda":
            return {"skipped": f"bytes on {DEVICE.type} are not counted"}
        frames = CHUNK_FRAMES * (-(-self.scale.reservoir_frames // CHUNK_FRAMES) // 3 + 2)
        return {
            " ".join(tier): self.video(self.relaxed(*tier), self.ours, frames).memory()
            for tier in TIERS
        }

    def _in_turns(self, runs: dict[str, tuple]) -> dict[str, list[float]]:
        """Seconds of each chunk of `(model, sampler, frames)`, of which one computes at a time."""
        clocks = {name: TurnClock() for name in runs}
        in_turns(
            {
                clock: lambda run=runs[name], clock=clock: self.sample(*run, clock)
                for name, clock in clocks.items()
            }
        )
        seconds = {name: clock.seconds for name, clock in clocks.items()}
        runs.clear()  # and with them what they hold of the GPU
        return seconds

    def decoding(self) -> dict:
        """A video file as Relax Forcing Stream writes it, the VAE in turns with the model."""
        figures = {}
        sizes = Sizes(
            **vars(self.shape), vae_dim=self.scale.vae_dim, chunks=self.scale.decoded_chunks
        )
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            folder_paths.set_output_directory(folder)
            work = Work(sizes, Path(folder), vae_device=DEVICE, model=self.model)
            for name in ("sampling alone", "sampling alone", "decoding alone", "in turn"):
                start = time.perf_counter()
                work.ways[name]()
                common.synchronize()
                figures[name] = median([(time.perf_counter() - start) / sizes.chunks])
        return {"seconds_per_chunk": figures}

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
        return self._compiled(self.scale.compile_backend)

    def graphs(self) -> dict:
        """The same with what lies between attentions recorded as CUDA graphs, where they are."""
        if DEVICE.type != "cuda":
            return {"skipped": f"{DEVICE.type} has no CUDA graphs"}
        return self._compiled("cudagraphs")

    def _compiled(self, backend: str) -> dict:
        from comfy_extras.nodes_torch_compile import TorchCompileModel
        from torch._dynamo.utils import counters

        warm_up, chunks = self.scale.compiled_chunks
        frames = CHUNK_FRAMES * (warm_up + chunks)
        torch._dynamo.reset()
        counters.clear()
        plain = self.another(self.policy, Storage(device="gpu"))
        model = self.another(self.policy, Storage(device="gpu"))
        (model,) = TorchCompileModel.execute(model, backend).result
        seconds = self._in_turns(
            {"plain": (plain, self.ours, frames), "compiled": (model, self.ours, frames)}
        )
        figures = {name: per_chunk(each[warm_up:]) for name, each in seconds.items()}
        figures |= {
            "first_chunks_seconds": [round(each, 3) for each in seconds["compiled"][:warm_up]],
            "graphs": counters["stats"]["unique_graphs"],
        }
        torch._dynamo.reset()
        ratio = figures["plain"]["seconds_per_chunk"] / figures["compiled"]["seconds_per_chunk"]
        return figures | {"speedup": round(ratio, 3)}


MINUTES = {  # of each section on an H100, guessed until one has been measured; in this order
    "matmul": 0.1,
    "kernel": 0.2,
    "rivals": 1.1,
    "memory": 0.5,
    "tiers": 1.5,
    "split": 0.8,
    "compiled": 0.7,
    "decoding": 0.5,
    "graphs": 0.3,
}


def forget_peak() -> int:
    """Give back what torch keeps for later, count the most bytes from here on; those of now."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return peak_bytes()


def peak_bytes() -> int:
    return torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0


def per_chunk(seconds: list[float]) -> dict:
    """Figures of chunks that are like each other."""
    chunk = median(seconds)
    return {
        "seconds_per_chunk": chunk,
        "video_frames_per_second": float(f"{VIDEO_FRAMES / chunk:.4g}"),
        "chunks_measured": len(seconds),
    }


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
            ("relaxed", 7, figures["rivals"]["relaxed"]),
            ("dense_window", WINDOW_FRAMES, figures["rivals"]["dense window"]),
        ):
            floor = PASSES * shape.pass_flop(frames) / rate
            found[f"{name}_pass_teraflop"] = shape.pass_flop(frames) / 1e12
            found[f"{name}_floor_seconds"] = floor
            found[f"{name}_over_floor"] = round(section["seconds_per_chunk"] / floor, 3)
    with contextlib.suppress(KeyError):
        rivals = figures["rivals"]
        relaxed, window = (
            rivals[name]["seconds_per_chunk"] for name in ("relaxed", "dense window")
        )
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
    parser.add_argument("--only", nargs="+", choices=MINUTES, default=MINUTES)
    parser.add_argument("--minutes", type=float, default=5.8, help="leave out what no longer fits")
    options = parser.parse_args()

    start = time.perf_counter()
    scale = TOY if options.toy else REAL
    figures = {}
    outcome = common.result("gpu-toy" if options.toy else "gpu", scale.shape, figures)
    print(f"{common.device_name()}, {common.optimized_attention.__name__}", flush=True)
    timer = give_up_after(60 * options.minutes, lambda: common.finish(outcome, save=options.save))
    bench = Bench(scale)
    spent: dict[str, float] = {}
    figures["weights_bytes"] = bench.model.model_size()
    for name in MINUTES:
        if name not in options.only:
            continue
        section_start = minutes_since(start)
        left = options.minutes - section_start
        figures[name] = {"error": f"was not over after {options.minutes} minutes"}
        figures[name] = attempt(getattr(bench, name), MINUTES[name], left)
        spent[name] = round(minutes_since(start) - section_start, 2)
        figures["conclusions"] = conclusions(figures, scale.shape)
        figures["minutes"] = spent | {"all": round(minutes_since(start), 2)}
        print(f"{name} ({spent[name]} min): {json.dumps(figures[name])}", flush=True)
        if options.out:
            options.out.write_text(common.one_line_a_figure(outcome) + "\n")
    print("minutes:", ", ".join(f"{name} {each}" for name, each in figures["minutes"].items()))
    print("conclusions:", json.dumps(figures["conclusions"], indent=1))
    timer.cancel()
    common.finish(outcome, save=options.save)


def give_up_after(seconds: float, finish: Callable[[], None]) -> threading.Timer:
    """End the program by then, whatever it is at."""

    def end() -> None:
        finish()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def minutes_since(start: float) -> float:
    return (time.perf_counter() - start) / 60


def attempt(section: Callable[[], dict], needed: float, left: float) -> dict:
    """A section's figures, why it was left out, or what went wrong: the others are worth having."""
    if needed > left:
        return {"skipped": f"takes about {needed} minutes, of which {max(left, 0):.1f} are left"}
    try:
        return section()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:500]}


if __name__ == "__main__":
    main()
