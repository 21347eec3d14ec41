"""Small videos with autosave in processes of their own, that may be killed at any moment.

The server that forks these processes has the host imported; nothing else of it is shared.
"""

import io
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import av
import folder_paths
import numpy
import safetensors.torch
import tiny
import tiny_vae
import torch

from relax_memory.film.mp4 import ONE_THREAD

tiny.pack()  # before processes are forked, so that they have it

CHUNKS = 12
# At least so many chunks the runs that are killed get on by, in any order; with one more each, and
# some that are saved before a kill takes effect, they are still less than all.
FURTHER = (0, 0, 1, 1, 1)
SETTINGS = {"width": 48, "height": 32, "seed": 7, "steps": 4, "frames_per_chunk": 3}


def sample(output: Path, *, autosave: bool = True, chunks: int = CHUNKS, **settings):
    """Latents and trace of a small video; the rest of the inputs may be replaced."""
    latent, trace = _run("RelaxForcingSampler", output, chunks, autosave=autosave, **settings)
    return latent["samples"], trace


def stream(output: Path, *, autosave: bool = True, chunks: int = CHUNKS, **settings):
    """Latents and the finished file of a small video; the rest of the inputs may be replaced."""
    settings = {"vae": tiny_vae.vae(), "fps": 16.0, "filename_prefix": "video/live"} | settings
    (video,), latent, _ = _run("RelaxForcingStream", output, chunks, autosave=autosave, **settings)
    return latent["samples"], Path(video.get_stream_source())


def _run(node_id: str, output: Path, chunks: int, **settings):
    folder_paths.set_output_directory(str(output))
    inputs = {"model": tiny.remembering(), "cfg": 1.0, "batch_size": 1} | SETTINGS | settings
    inputs = {"positive": tiny.conditioning(1), "length": 12 * chunks - 3} | inputs
    return tiny.node(node_id, **inputs)


def run_to_file(run, output: Path, result: Path, ready, go) -> None:
    """Run in one thread and write the latents: `ready` when the host is, waiting for `go`."""
    torch.set_num_threads(1)
    tiny.remembering()
    ready.set()
    go.wait(120)
    latents, _ = run(output)
    safetensors.torch.save_file({"latents": latents}, result)


def start(output: Path, result: Path, run=sample) -> multiprocessing.Process:
    """A process that does `sample` or `stream`, returned when it begins to sample."""
    (process,) = start_together(output, [result], run)
    return process


def start_together(output: Path, results: list[Path], run=sample) -> list[multiprocessing.Process]:
    """As `start`, several that begin at the same moment, with a result each."""
    methods = multiprocessing.get_all_start_methods()
    starter = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    starter.set_forkserver_preload(["crash_run"])
    go, processes = starter.Event(), []
    for result in results:
        ready = starter.Event()
        process = starter.Process(target=run_to_file, args=(run, output, result, ready, go))
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # it needs that
            process.start()
        processes.append(process)
        ready.wait(120)
    go.set()
    return processes


def wait(output: Path, count: int, seconds: float, running: Callable[[], bool]) -> None:
    """Wait until so many chunks are saved, then up to so many seconds or for one chunk more.

    So a machine on which a chunk takes no time still has chunks left when all is over.
    """
    while running() and saved_count(output) < count:
        time.sleep(0.002)
    end = time.monotonic() + random.uniform(0, seconds)
    while running() and saved_count(output) <= count and time.monotonic() < end:
        time.sleep(0.002)


def saved_count(output: Path) -> int:
    return len(list(output.glob("relax_forcing/*/*.safetensors")))


def saved_files(output: Path) -> dict[str, tuple[int, bytes]]:
    """Every saved chunk: time of writing and content by path."""
    files = sorted(output.glob("relax_forcing/*/*.safetensors"))
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def unfinished_videos(output: Path) -> set[Path]:
    """The partial videos that show something; one killed before its first chunk is empty."""
    return {path for path in output.rglob("*.partial.mp4") if path.stat().st_size}


def pictures(file: Path | io.BytesIO) -> numpy.ndarray:
    """All frames of a video, `[F, H, W, 3]`; more threads would round now and then differently."""
    with av.open(str(file) if isinstance(file, Path) else file) as container:
        return numpy.stack(
            [f.to_ndarray(format="rgb24", **ONE_THREAD) for f in container.decode(video=0)]
        )


def chunks_in(partial: Path | io.BytesIO, whole: numpy.ndarray) -> int:
    """How many chunks a video has, which must be whole ones, the first of the video `whole`."""
    frames = pictures(partial)
    assert (len(frames) + 3) % 12 == 0
    unlike = numpy.flatnonzero((frames != whole[: len(frames)]).any((1, 2, 3)))
    assert not unlike.size, f"frames {unlike} of {len(frames)} are unlike those of the whole video"
    return (len(frames) + 3) // 12
