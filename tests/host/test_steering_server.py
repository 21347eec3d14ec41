"""Videos that are steered over HTTP while a real server makes them."""

import json
import random
import re
import shutil
import subprocess
import sys
import time

import av
import live
import pytest
import safetensors.torch
import torch
from conftest import ROOT

EDITS, CHUNKS = 20, 24
WORDS = ("a red circle", "a blue square [left] | right", "a green star \\ @1s", "夜 😀", "x")
HOW = (
    {},
    {"transition": "keep"},
    {"transition": "recache"},
    {"transition": "blend", "blend_seconds": 1.3},
    {"transition": "cut"},
    {"remember_seconds": 0.4},
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with live.Server(tmp_path_factory.mktemp("host"), metadata=True) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_saved(server):
    shutil.rmtree(server.folder / "output" / "relax_forcing", ignore_errors=True)


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


def latents(server, job):
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


def test_a_video_of_many_edits_is_that_of_the_graph_they_leave(server):
    """The words go to the server at random moments, and what it answers is queued again."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    answers, statuses = [], []
    with server.running(graph("a red circle | a cat")) as job:
        begun(job)
        while not job.ending and len(answers) < EDITS:
            status, answer = direct(server, job, draw.choice(WORDS), **draw.choice(HOW))
            statuses.append((status, answer))
            if status == 200:
                answers.append(answer)
                time.sleep(draw.random() * 0.3)
    assert len(answers) >= EDITS / 2, (seed, statuses[-3:])
    steered = latents(server, job)
    assert [event["text"] for event in job.directed] == [answer["text"] for answer in answers]
    text = answers[-1]["text"]
    again = server.run(graph(text))
    assert again.sampled_steps == 0, seed
    assert torch.equal(latents(server, again), steered), (seed, text)
    afresh = server.run(graph(text, autosave=False))
    assert torch.equal(latents(server, afresh), steered), (seed, text)


def test_the_video_that_was_steered_carries_the_graph_that_makes_it(server):
    """As when it is dragged into the browser and queued."""
    decode = node("RelaxForcingDecode", samples=["video", 0], vae=["models", 2], fps=16.0)
    decode["inputs"]["filename_prefix"] = "video/steered"
    with server.running(graph("a red circle | a cat", autosave=False) | {"film": decode}) as job:
        begun(job, 2)
        for words in WORDS[:2]:
            status, answer = direct(server, job, words, transition="cut")
            assert status == 200, answer
    steered = latents(server, job)
    (shown,) = job.of("RelaxForcingDecode", "outputs")
    file = shown["images"][0]
    with av.open(str(server.folder / "output" / file["subfolder"] / file["filename"])) as video:
        carried = json.loads(video.metadata["prompt"])
    assert carried["words"]["inputs"]["text"] == answer["text"]
    assert torch.equal(latents(server, server.run(carried)), steered)


def examples(server, language):
    page = (ROOT / "docs" / "steering.md").read_text("utf-8")
    (block,) = re.findall(f"```{language}\n(.*?)```", page, re.DOTALL)
    return block.replace("http://127.0.0.1:8188", server.url)


def test_the_examples_of_the_page_steer(server):
    names = {"words": "4", "video": "6"}
    told = json.dumps(graph("a red circle | a cat", autosave=False))
    for name, number in names.items():
        told = told.replace(f'"{name}"', f'"{number}"')
    with server.running(json.loads(told)) as job:
        begun(job, 2)
        for command in (
            ["bash", "-c", examples(server, "bash")],
            [sys.executable, "-c", examples(server, "python")],
        ):
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            assert "] a purple star" in done.stdout
    assert "cut] a blue square, slow" in done.stdout
    assert [event["node_id"] for event in job.directed] == 3 * ["4"]
    assert latents(server, job).shape[2] < 3 * CHUNKS
