"""What decoding beside sampling saves: a video sampled, decoded, both in turn, both at once.

A small random model and a small random Wan VAE write a video file as Relax Forcing Stream does.
With a GPU the model is there and the VAE on the CPU; without one, each has one thread of the CPU,
which needs two free cores: `cores_used`, the processor's seconds in one second, tells whether they
were free. Every figure is the median of several runs after one that warms up, and the ways take
turns. Last line: JSON.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import common
import small
import torch
from common import CHUNK_FRAMES, DEVICE, Shape

import comfy.sd  # isort: skip
import folder_paths  # isort: skip
from comfy.model_patcher import ModelPatcher  # isort: skip

from relax_memory.film.mp4 import VideoWriter
from relax_memory.host.film.live import LiveVideo
from relax_memory.host.request import Request
from relax_memory.host.sampling.generate import generate
from relax_memory.keepers import Finished

FPS = 16.0
STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Sizes(Shape):
    """Of the model, of the VAE and of the video."""

    vae_dim: int
    chunks: int

    @property
    def video_frames(self) -> int:
        return 4 * (CHUNK_FRAMES * self.chunks - 1) + 1


class Work:
    """The same video made in four ways; each returns its latents."""

    def __init__(
        self,
        sizes: Sizes,
        folder: Path,
        *,
        vae_device: torch.device | str = "cpu",
        model: ModelPatcher | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(1)
        text = torch.randn(1, sizes.text_tokens, common.TEXT_DIM, generator=generator)
        self._request = Request(
            model=model or common.causal_model(sizes),
            positive=[[text, {}]],
            width=sizes.width,
            height=sizes.height,
            length=sizes.video_frames,
            seed=1,
            steps=STEPS,
        )
        self._vae = comfy.sd.VAE(sd=small.vae(dim=sizes.vae_dim), device=torch.device(vae_device))
        self._folder = folder
        self._chunks: list = []
        self._latents = None
        self._files = 0

    @property
    def ways(self) -> dict[str, Callable[[], torch.Tensor]]:
        return {
            "sampling alone": self._sample,
            "decoding alone": self._decode,
            "in turn": lambda: self._stream(beside=False),
            "at once": lambda: self._stream(beside=True),
        }

    def _sample(self) -> torch.Tensor:
        self._chunks = []
        self._latents, _ = generate(self._request, self)
        return self._latents

    def keep(self, finished: Finished) -> None:
        self._chunks.append(finished.latents)

    def _decode(self) -> torch.Tensor:
        live = self._live(beside=False)
        for latents in self._chunks:
            live.append(latents)
        live.finish()
        return self._latents

    def _stream(self, *, beside: bool) -> torch.Tensor:
        live = self._live(beside=beside)
        latents, _ = generate(self._request, live=live)
        live.finish()
        return latents

    def _live(self, *, beside: bool) -> LiveVideo:
        return LiveVideo(self._vae, self._request, self._open, beside=beside)

    def _open(self, width: int, height: int) -> VideoWriter:
        self._files += 1
        path = self._folder / f"{self._files}.mp4"
        return VideoWriter(path, fps=FPS, width=width, height=height)


def measure(sizes: Sizes, runs: int) -> dict:
    """Seconds of each way, and how much of the shorter half of the work the overlap hides."""
    seconds: dict[str, list[float]] = {}
    cores: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        folder_paths.set_output_directory(folder)
        work = Work(sizes, Path(folder))
        expected = work.ways["sampling alone"]()
        for run in range(1 + runs):
            for name, way in work.ways.items():
                start, start_used = time.perf_counter(), time.process_time()
                latents = way()
                taken, used = time.perf_counter() - start, time.process_time() - start_used
                assert torch.equal(latents, expected), f"{name} gives another video"
                if run:
                    seconds.setdefault(name, []).append(taken)
                    cores.setdefault(name, []).append(used / taken)
                    print(f"{name}: {taken:.2f} s", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    shorter = min(medians["sampling alone"], medians["decoding alone"])
    hidden = 100 * (medians["in turn"] - medians["at once"]) / shorter
    return {
        "cores": usable_cores(),
        "model_on": DEVICE.type,
        "vae_on": "cpu",
        "runs": runs,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "slowest_over_fastest": {
            name: round(max(values) / min(values), 3) for name, values in seconds.items()
        },
        "cores_used": {name: common.median(values) for name, values in cores.items()},
        "speedup": round(medians["in turn"] / medians["at once"], 3),
        "shorter_part_hidden_percent": round(hidden, 1),
    }


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(160, 96), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vae-dim", type=int, default=8)
    options = parser.parse_args()
    if DEVICE.type == "cpu":
        torch.set_num_threads(1)
    sizes = Sizes(
        dim=options.dim,
        ffn_dim=4 * options.dim,
        layers=options.layers,
        width=options.size[0],
        height=options.size[1],
        text_tokens=16,
        dtype="float32",
        vae_dim=options.vae_dim,
        chunks=options.chunks,
    )
    figures = measure(sizes, options.runs)
    common.finish(common.result("overlap", sizes, figures), save=options.save)


if __name__ == "__main__":
    main()
