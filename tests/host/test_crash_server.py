"""The real server is killed again and again; another one on the same output folder goes on."""

import json
import random
import threading
from contextlib import suppress
from pathlib import Path

import aiohttp
import crash_run
import live
import pytest
import safetensors.torch
import torch

KILLS, CHUNKS = 2, 40
CHUNK_SECONDS, SECONDS_TO_LOAD = 0.2, 2  # about
LOADER = {"weight_dtype": "default", "checkpoint_key": "auto", "shift": 5.0}
MEMORY = {
    "sink_frames": 2,
    "history_frames": 1,
    "tail_frames": 1,
    "history_candidates": 4,
    "redundancy_weight": 2.0,
    "reservoir_frames": 24,
    "rope": "hybrid",
    "reservoir_device": "auto",
    "reservoir_dtype": "model",
}
SAMPLER = {"seed": 4, "steps": 4, "cfg": 1.0, "frames_per_chunk": 3, "batch_size": 1}


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def latents_of(server: live.Server, source: dict, **kwargs) -> tuple[live.Job, torch.Tensor | None]:
    """Run a node that makes latents, keep them with the host's own node, and read them back."""
    workflow = {
        "model": node("RelaxForcingLoadModel", model_name=f"{live.DATASET}.safetensors", **LOADER),
        "prompt": node("LoadTrainingDataset", folder_name=live.DATASET),
        "memory": node("RelaxForcingMemory", model=["model", 0], **MEMORY),
        "source": source,
        "save": node("SaveLatent", samples=["source", 0], filename_prefix="latents/crash"),
    }
    job = server.run(workflow, **kwargs)
    if job.ending != "success":
        return job, None
    (saved,) = job.of("SaveLatent", "outputs")
    file = saved["latents"][0]
    path = server.folder / "output" / file["subfolder"] / file["filename"]
    return job, safetensors.torch.load_file(path)["latent_tensor"]


def sampler(**inputs) -> dict:
    links = {"model": ["memory", 0], "positive": ["prompt", 1]}
    size = live.SIZE | {"length": 12 * CHUNKS - 3, "autosave": True}
    return node("RelaxForcingSampler", **links | SAMPLER | size | inputs)


def run_until_killed(server: live.Server, output: Path, chunks: int) -> None:
    count = crash_run.saved_count(output) + chunks

    def run():
        with suppress(aiohttp.ClientError, KeyError):
            latents_of(server, sampler())

    thread = threading.Thread(target=run)
    thread.start()
    seconds = CHUNK_SECONDS if chunks else SECONDS_TO_LOAD
    crash_run.wait(output, count, seconds, thread.is_alive)
    server.__exit__()
    thread.join()


@pytest.mark.timeout(600)
def test_servers_killed_at_random_moments_go_on_after_an_interrupt_too(tmp_path, many_starts):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    output = first / "output"
    further = random.sample(crash_run.FURTHER, KILLS)
    for chunks in further:
        before = crash_run.saved_files(output)
        with live.Server(first) as server:
            run_until_killed(server, output, chunks)
        killed = crash_run.saved_files(output)
        assert before.items() <= killed.items()
    assert sum(further) <= len(killed) < CHUNKS

    (second / "output").symlink_to(output)
    with live.Server(second) as server:
        job, _ = latents_of(server, sampler(), interrupt=True)
        assert job.ending == "interrupted"
        interrupted = crash_run.saved_files(output)
        assert killed.items() <= interrupted.items()
        assert len(interrupted) < CHUNKS

        information = json.loads(server.fetch("/object_info/RelaxForcingResume"))
        ((_, choice),) = information["RelaxForcingResume"]["input"]["required"].values()
        (label,) = choice["options"]
        assert label.endswith(f"  48x32  {len(interrupted)} of {CHUNKS} chunks")
        _, beginning = latents_of(server, node("RelaxForcingResume", rollout=label))

        job, latents = latents_of(server, sampler())
        (texts,) = job.of("RelaxForcingSampler", "texts")
        assert texts[0].startswith(f"Continues after {len(interrupted)} of {CHUNKS} saved chunks")
        assert interrupted.items() <= crash_run.saved_files(output).items()
        _, undisturbed = latents_of(server, sampler(autosave=False))

    assert torch.equal(latents, undisturbed)
    assert torch.equal(beginning, undisturbed[:, :, : 3 * len(interrupted)])
