"""Small videos with autosave in processes of their own, that may be killed at any moment.

The server that forks these processes has the host imported; nothing else of it is shared.
"""

import multiprocessing
import os
import sys
from pathlib import Path
from unittest import mock

import folder_paths
import safetensors.torch
import tiny
import torch

tiny.pack()  # before processes are forked, so that they have it

CHUNKS = 12
SETTINGS = {"width": 48, "height": 32, "seed": 7, "steps": 4, "frames_per_chunk": 3}


def sample(output: Path, *, autosave: bool = True, chunks: int = CHUNKS, **settings):
    """Latents and trace of a small video; the rest of the inputs may be replaced."""
    folder_paths.set_output_directory(str(output))
    inputs = {"model": tiny.remembering(), "cfg": 1.0, "batch_size": 1} | SETTINGS | settings
    inputs = {"positive": tiny.conditioning(1), "length": 12 * chunks - 3} | inputs
    latent, trace = tiny.node("RelaxForcingSampler", autosave=autosave, **inputs)
    return latent["samples"], trace


def sample_to_file(output: Path, result: Path, sampling) -> None:
    """Sample in one thread and write the latents; `sampling` is set when the host is ready."""
    torch.set_num_threads(1)
    tiny.remembering()
    sampling.set()
    latents, _ = sample(output)
    safetensors.torch.save_file({"latents": latents}, result)


def start(output: Path, result: Path) -> multiprocessing.Process:
    """A process in `sample_to_file`, returned when it begins to sample."""
    methods = multiprocessing.get_all_start_methods()
    starter = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    starter.set_forkserver_preload(["crash_run"])
    sampling = starter.Event()
    process = starter.Process(target=sample_to_file, args=(output, result, sampling))
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # the server needs it
        process.start()
    sampling.wait(120)
    return process


def saved_files(output: Path) -> dict[str, tuple[int, bytes]]:
    """Every saved chunk: time of writing and content by path."""
    files = sorted(output.glob("relax_forcing/*/*.safetensors"))
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}
