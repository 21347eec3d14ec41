"""Videos of a real server that take new words while they are made."""

import json
import random
import time

import av
import live
import safetensors.torch
import torch

CHUNKS = 20
WORDS = ("a red circle", "a blue square [left] | right", "a green star \\ @1s", "夜 😀", "x")
HOW = (
    {},
    {"transition": "keep"},
    {"transition": "recache"},
    {"transition": "blend", "blend_seconds": 1.3},
    {"transition": "cut"},
    {"remember_seconds": 0.4},
)


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def graph(text, *, chunks=CHUNKS, **settings):
    size = {"width": 64, "height": 64, "length": 12 * chunks - 3, "seed": 3, "steps": 2, "cfg": 1.0}
    size |= {"frames_per_chunk": 3, "batch_size": 1, "autosave": True}
    links = {"model": ["models", 0], "positive": ["words", 0]}
    return {
        "models": node("RelaxForcingDemoModels"),
        "words": node(
            "RelaxForcingPromptSchedule",
            clip=["models", 1],
            text=text,
            transition="keep",
            blend_seconds=1.0,
        ),
        "video": node("RelaxForcingSampler", **links | size | settings),
        "save": node("SaveLatent", samples=["video", 0], filename_prefix="latents/steered"),
    }


def streamed(asked):
    """The graph with Relax Forcing Stream in the place of the sampler."""
    asked["video"]["class_type"] = "RelaxForcingStream"
    asked["video"]["inputs"] |= {"vae": ["models", 2], "fps": 16.0, "filename_prefix": "steered"}
    asked["save"]["inputs"]["samples"] = ["video", 1]
    return asked


def decoded(asked):
    """The graph with a video file, which carries the graph."""
    decode = node("RelaxForcingDecode", samples=["video", 0], vae=["models", 2], fps=16.0)
    decode["inputs"]["filename_prefix"] = "video/steered"
    return asked | {"film": decode}


def carried(server, job):
    """The graph that the video file of a job carries."""
    (shown,) = job.of("RelaxForcingDecode", "outputs")
    file = shown["images"][0]
    return prompt_in(server.folder / "output" / file["subfolder"] / file["filename"])


def prompt_in(video):
    """The graph that a video file carries."""
    with av.open(str(video)) as container:
        return json.loads(container.metadata["prompt"])


def latents(server, job) -> torch.Tensor:
    assert job.ending == "success", (job.ending, server.log()[-3000:])
    (saved,) = job.of("SaveLatent", "outputs")
    file = saved["latents"][0]
    path = server.folder / "output" / file["subfolder"] / file["filename"]
    return safetensors.torch.load_file(path)["latent_tensor"]


def begun(job, chunks=1):
    """Wait until so many chunks are begun."""
    wait(lambda: job.ending or any(t.startswith(f"Chunk {chunks} of") for t in told(job)))


def told(job):
    return [text for texts in job.texts.values() for text in list(texts)]


def wait(done):
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def direct(server, job, text, **asked):
    asked = {"prompt_id": job.prompt_id, "node_id": "video", "text": text} | asked
    return server.post("/relax_forcing/direct", json=asked)


def edit_at_random(
    server: live.Server, job: live.Job, draw: random.Random, most: int
) -> tuple[list[dict], list[dict]]:
    """Send words at random moments until so many are taken or the job ends: answers, refusals."""
    taken, refused = [], []
    begun(job)
    while not job.ending and len(taken) < most:
        status, answer = direct(server, job, draw.choice(WORDS), **draw.choice(HOW))
        (taken if status == 200 else refused).append(answer)
        time.sleep(draw.random() * 0.1)
    return taken, refused
