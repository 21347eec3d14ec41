"""What the benchmarks share: paths, random Wan models of any shape, sampling, timing, results.

Import it first: it puts the host before the repository on the path and decides between the GPU and
the CPU (hide the GPU with `CUDA_VISIBLE_DEVICES=` to force the latter). `python run.py bench NAME`
prepares everything; elsewhere set COMFYUI_PATH to the folder of a ComfyUI 0.24.1 or later.
"""

import argparse
import functools
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
HOST = Path(os.environ.get("COMFYUI_PATH", ROOT / ".comfyui")).resolve()
RESULTS = ROOT / "benchmarks" / "results"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

sys.path[:] = [str(HOST), *(p for p in sys.path if Path(p or ".").resolve() not in (ROOT, HOST))]
sys.path += [str(ROOT), str(ROOT / "tests")]

import comfy.options  # noqa: E402  (without it the host would read our arguments)
from comfy.cli_args import args as host_args  # noqa: E402

host_args.cpu = DEVICE.type == "cpu"

import comfy.model_management  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import small  # noqa: E402
from comfy.ldm.modules.attention import optimized_attention  # noqa: E402
from comfyui_version import __version__ as host_version  # noqa: E402
from form import one_line_a_figure  # noqa: E402
from small import CAUSAL_METADATA, HEAD_DIM, TEXT_DIM  # noqa: E402

from relax_memory.memory.costs import ModelShape  # noqa: E402

LATENT_CHANNELS = 16
CHUNK_FRAMES = 3
SIGMAS = (1.0, 0.9375, 0.8333333, 0.625, 0.0)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Wan 2.1 text-to-video model and the size of its video in pixels."""

    dim: int
    ffn_dim: int
    layers: int
    width: int
    height: int
    text_tokens: int
    dtype: str

    @property
    def heads(self) -> int:
        return self.dim // HEAD_DIM

    @property
    def tokens(self) -> int:
        """Tokens of one latent frame."""
        return (self.width // 16) * (self.height // 16)

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def frame_bytes(self) -> int:
        """Bytes of the keys and values of one latent frame."""
        return ModelShape(
            layers=self.layers,
            heads=self.heads,
            head_dim=HEAD_DIM,
            tokens=self.tokens,
            element_bytes=self.torch_dtype.itemsize,
        ).frame_bytes

    def pass_flop(self, attended_frames: int) -> float:
        """Multiplications and additions of one model call that attends `attended_frames`, its own
        chunk included: all matrix products; norms and activations are left out."""
        length = CHUNK_FRAMES * self.tokens
        linear = length * (6 * self.dim**2 + 2 * self.dim * self.ffn_dim)
        linear += self.text_tokens * 2 * self.dim**2
        attention = 2 * length * self.dim * (attended_frames * self.tokens + self.text_tokens)
        return 2.0 * self.layers * (linear + attention)


WAN_1_3B = Shape(
    dim=1536, ffn_dim=8960, layers=30, width=832, height=480, text_tokens=512, dtype="bfloat16"
)


def causal_model(shape: Shape, seed: int = 0):
    """The host's ModelPatcher of a CausalWanModel with random weights, computing in its dtype."""
    model = comfy.sd.load_diffusion_model_state_dict(
        dict(_weights(shape, seed)),
        model_options={"dtype": shape.torch_dtype},
        metadata=CAUSAL_METADATA,
    )
    if model.model.get_dtype_inference() != shape.torch_dtype:
        model.set_model_compute_dtype(shape.torch_dtype)
    return model


@functools.lru_cache(maxsize=1)
def _weights(shape: Shape, seed: int) -> dict[str, torch.Tensor]:
    return small.transformer(
        shape.dim,
        shape.layers,
        seed,
        ffn_dim=shape.ffn_dim,
        device=DEVICE,
        dtype=shape.torch_dtype,
    )


def native_sampler():
    """The host's SamplerARVideo."""
    from comfy_extras.nodes_ar_video import SamplerARVideo

    return SamplerARVideo.execute(CHUNK_FRAMES).result[0]


def sample(model, sampler, shape: Shape, frames: int, on_step=None, sigmas=None) -> torch.Tensor:
    """Latents of `frames` latent frames, sampled through the host as its nodes do.

    Args:
        on_step: called without arguments after every denoising step.
        sigmas: `SIGMAS` where none are given.
    """
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(1, shape.text_tokens, TEXT_DIM, generator=generator)
    latent = torch.zeros(1, LATENT_CHANNELS, frames, shape.height // 8, shape.width // 8)
    with torch.inference_mode():
        guider = comfy.samplers.CFGGuider(model)
        guider.inner_set_conds({"positive": [[text, {}]]})
        guider.set_cfg(1.0)
        return guider.sample(
            comfy.sample.prepare_noise(latent, 1),
            latent,
            sampler,
            torch.tensor(sigmas or SIGMAS),
            callback=None if on_step is None else lambda *_: on_step(),
            disable_pbar=True,
            seed=1,
        )


def moment():
    """Now: an event in the GPU's stream, which holds nothing up, or the time."""
    if DEVICE.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def elapsed(start, end) -> float:
    """Seconds between two moments; on a GPU, call `torch.cuda.synchronize` first."""
    return end - start if DEVICE.type != "cuda" else start.elapsed_time(end) / 1000


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


class ChunkClock:
    """Seconds of each chunk: from the last step of the chunk before to its own last step.

    So a chunk includes the clean pass of the one before it. Pass it to `sample` as `on_step`.
    """

    def __init__(self, steps: int = 0) -> None:
        self._steps = steps or len(SIGMAS) - 1
        self._calls = 0
        self._moments = [moment()]

    @property
    def chunks(self) -> int:
        """How many chunks are finished."""
        return self._calls // self._steps

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % self._steps == 0:
            self._moments.append(moment())

    @property
    def seconds(self) -> list[float]:
        synchronize()
        return [elapsed(*pair) for pair in itertools.pairwise(self._moments)]


def median(values) -> float:
    """The median, rounded to what is worth reading; NaN when there is none."""
    values = list(values)
    return float(f"{statistics.median(values):.4g}") if values else float("nan")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows `--save`."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    return parser


def shape_of(options: argparse.Namespace) -> Shape:
    """The shape of a model by the options `dim`, `layers` and `size`."""
    width, height = options.size
    return Shape(
        dim=options.dim,
        ffn_dim=2 * options.dim,
        layers=options.layers,
        width=width,
        height=height,
        text_tokens=64,
        dtype="float32" if DEVICE.type == "cpu" else "bfloat16",
    )


def result(name: str, shape: Shape, figures: dict) -> dict:
    """Figures and all that is needed to know what they were measured on."""
    return {
        "benchmark": name,
        "date": date.today().isoformat(),
        "device": device_name(),
        "torch": torch.__version__,
        "host": host_version,
        "attention": optimized_attention.__name__,
        "commit": COMMIT,
        "shape": asdict(shape) | {"tokens_per_frame": shape.tokens},
        "figures": figures,
    }


def finish(outcome: dict, *, save: bool) -> None:
    """Print a result as the last line, and write it where results are kept."""
    if save:
        device = re.sub(r"[^a-z0-9]+", "-", outcome["device"].lower()).strip("-")
        path = RESULTS / f"{outcome['benchmark']}-{device}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(one_line_a_figure(outcome) + "\n")
        print(f"written to {path.relative_to(ROOT)}")
    print(json.dumps(outcome), flush=True)


def device_name() -> str:
    """The GPU by name, or the processor and how many threads torch uses."""
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit, `-dirty` when what is measured differs from it; GIT_COMMIT where git is not."""
    measured = (
        "relax_memory",
        "nodes",
        "demo",
        "lab",
        "tests",
        "benchmarks",
        ":!benchmarks/results",
    )
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--", *measured) else commit
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("GIT_COMMIT")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


COMMIT = _commit()  # that of the beginning: some runs take an hour
