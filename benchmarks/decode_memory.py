"""Peak resident memory of turning 30 seconds and 10 minutes of latents into a video file.

Compares Relax Forcing Decode, Relax Forcing Stream (which samples too) and the host's VAE Decode
with Save Video, each in a process of its own, with small pictures and small random weights. Given
are the whole peak and what it is above the peak of a short video in the same process. Last line:
JSON.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import common
import psutil
import torch

torch.set_num_threads(1)  # as the small models of the tests do

VIDEOS = {"5 s": 21, "30 s": 120, "10 min": 2400}
VAE_DIM = 8
DECODE, STREAM, HOST = "decode", "stream", "host's VAE Decode"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Size of the video in pixels, and of the Wan VAE."""

    width: int
    height: int
    vae_dim: int = VAE_DIM

    @property
    def tokens(self) -> int:
        """Tokens of one latent frame."""
        return (self.width // 16) * (self.height // 16)


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    try:  # not getrusage: Linux starts its count at the memory of the parent
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except OSError:
        if peak := getattr(psutil.Process().memory_info(), "peak_wset", None):  # Windows
            return peak
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run_decode(frames: int, pictures: Pictures) -> None:
    import tiny
    import tiny_vae

    inputs = {"samples": {"samples": latents(frames, pictures)}, "vae": tiny_vae.vae()}
    tiny.node("RelaxForcingDecode", **inputs, fps=16.0, filename_prefix="a")


def run_stream(frames: int, pictures: Pictures) -> None:
    import tiny
    import tiny_vae

    tiny.node(
        "RelaxForcingStream",
        model=tiny.model(dim=128, layers=1),
        positive=tiny.conditioning(1),
        width=pictures.width,
        height=pictures.height,
        length=4 * (frames - 1) + 1,
        seed=0,
        steps=1,
        cfg=1.0,
        frames_per_chunk=3,
        batch_size=1,
        autosave=True,
        vae=tiny_vae.vae(),
        fps=16.0,
        filename_prefix="a",
    )


def run_host(frames: int, pictures: Pictures) -> None:
    import nodes
    import tiny_vae
    from comfy_api.latest._io import HiddenHolder
    from comfy_extras.nodes_video import CreateVideo, SaveVideo

    (images,) = nodes.VAEDecode().decode(tiny_vae.vae(), {"samples": latents(frames, pictures)})
    (video,) = CreateVideo.execute(images, 16.0).result
    SaveVideo.hidden = HiddenHolder.from_dict({})
    SaveVideo.execute(video, "a", "auto", {"codec": "auto"})


def latents(frames: int, pictures: Pictures) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (1, common.LATENT_CHANNELS, frames, pictures.height // 8, pictures.width // 8)
    return torch.randn(size, generator=generator)


RUNS = {DECODE: run_decode, STREAM: run_stream, HOST: run_host}


def measure(name: str, frames: int, pictures: Pictures) -> dict:
    """Run one line of the table in this process, after a short video that warms everything up."""
    import folder_paths

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        folder_paths.set_output_directory(folder)
        RUNS[name](5, pictures)
        before, start = peak_bytes(), time.perf_counter()
        RUNS[name](frames, pictures)
        seconds = time.perf_counter() - start
    peak = peak_bytes()
    return {
        "peak_bytes": peak,
        "above_short_bytes": peak - before,
        "seconds": round(seconds, 1),
    }


def apart(name: str, frames: int, pictures: Pictures) -> dict:
    """`measure` in a process of its own."""
    job = json.dumps([name, frames, pictures.width, pictures.height])
    command = [sys.executable, __file__, "--job", job]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 48), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--videos", nargs="+", default=["30 s", "10 min"], choices=VIDEOS)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=RUNS)
    parser.add_argument("--job", help="measure one thing in this process")
    options = parser.parse_args()
    if options.job:
        name, frames, width, height = json.loads(options.job)
        print(json.dumps(measure(name, frames, Pictures(width=width, height=height))))
        return
    pictures = Pictures(width=options.size[0], height=options.size[1])
    figures = {}
    for name in options.runs:
        rows = {video: apart(name, VIDEOS[video], pictures) for video in options.videos}
        first, last = (rows[options.videos[end]]["peak_bytes"] for end in (0, -1))
        figures[name] = rows | {"growth_percent": round(100 * (last / first - 1), 1)}
        for video, row in rows.items():
            print(f"{name}, {video}: peak {row['peak_bytes'] / 1e6:.0f} MB, {row['seconds']} s")
    common.finish(common.result("decode_memory", pictures, figures), save=options.save)


if __name__ == "__main__":
    main()
