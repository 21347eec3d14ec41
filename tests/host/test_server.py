"""Every API workflow through the real server: queued over HTTP, followed, its files read back."""

import io
import json
import re
import shutil
from pathlib import Path

import av
import live
import pytest
import tiny
import torch
from conftest import ROOT
from host.test_workflows import as_api, load
from PIL import Image

from relax_memory.saved.archive import saved_rollouts

API = sorted(ROOT.glob("workflows/api/*.json"))
CHUNKS, STEPS = 5, 4  # the choice of history begins with the third chunk
STEPS_OF = {"frame-wise": [STEPS] * 3 * CHUNKS, "2-step": [STEPS] + [2] * (3 * CHUNKS - 1)}
GIVEN = {"image to video": 1, "extend a video": 6}  # latent frames that are not sampled
TEXT_TO_VIDEO = ROOT / "workflows/api/Relax Forcing text to long video - self forcing 60 s.json"
SAMPLERS = ("RelaxForcingSampler", "SamplerCustomAdvanced", "RelaxForcingStream")
VIDEOS = ("RelaxForcingDecode", "RelaxForcingStream", "SaveVideo")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with live.Server(tmp_path_factory.mktemp("host")) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_saved(server):
    """Without this a rollout that an earlier test made would be taken from its saved chunks."""
    shutil.rmtree(server.folder / "output" / "relax_forcing", ignore_errors=True)


def workflow(path: Path, length: int, rollout: str = "") -> dict:
    return live.small(json.loads(path.read_text("utf-8")), length, rollout)


def video_length(given_frames: int) -> int:
    """Video frames of a video of which CHUNKS are sampled after these latent frames."""
    return 4 * (given_frames + 3 * CHUNKS - 1) + 1


def cancelled_rollout(server: live.Server) -> tuple[str, int]:
    """The name of a saved rollout that was cancelled after a while, and its latent frames."""
    path = ROOT / "workflows/api/Relax Forcing long video stream - self forcing.json"
    assert server.run(workflow(path, length=957), interrupt=True).ending == "interrupted"
    (rollout,) = server.saved_rollouts()
    chunks = int(re.fullmatch(r".+  48x32  (\d+) of 80 chunks", rollout)[1])
    return rollout, 3 * chunks


def files(server: live.Server, outputs: list[dict]) -> list[bytes]:
    """Every file that the nodes show, as the browser fetches it."""
    found = [file for output in outputs for file in output["images"]]
    return [server.fetch("/view", **{key: str(value) for key, value in f.items()}) for f in found]


def video_frames(server: live.Server, job: live.Job) -> list[tuple[int, float]]:
    """Frames of every video of a job, and how many times the small size it has."""
    counts = []
    for node in VIDEOS:
        for content in files(server, job.of(node, "outputs")):
            with av.open(io.BytesIO(content)) as container:
                frames = list(container.decode(video=0))
            ((width, height),) = {(frame.width, frame.height) for frame in frames}
            assert width / live.SIZE["width"] == height / live.SIZE["height"]
            counts.append((len(frames), width / live.SIZE["width"]))
    return counts


@pytest.mark.parametrize("path", API, ids=lambda path: path.stem)
def test_a_workflow_runs_and_leaves_its_files(server, path):
    given = sum(frames for name, frames in GIVEN.items() if name in path.stem)
    rollout = ""
    if "RelaxForcingResume" in path.read_text("utf-8"):
        rollout, given = cancelled_rollout(server)
    length = video_length(given)
    graph = workflow(path, length, rollout)
    for number, inputs in enumerate(node["inputs"] for node in graph.values()):
        if "until_seconds" in inputs:  # all that there is
            inputs["until_seconds"] = 0.0
        if "seed" in inputs:  # another one in each, or it is there: small models know few words
            inputs["seed"] = 100 * API.index(path) + number
    job = server.run(graph)
    assert job.ending == "success", server.log()
    each = next((s for name, s in STEPS_OF.items() if name in path.stem), [STEPS] * CHUNKS)
    samplers = [steps for node in SAMPLERS for steps in job.of(node, "progress")]
    assert samplers
    for steps in samplers:  # the host leaves some out where they come too fast to be seen
        assert steps == sorted(set(steps))
        assert {total for _, total in steps} == {sum(each)}
        assert steps[-1] == (sum(each), sum(each))
    for texts in job.of("RelaxForcingSampler", "texts") + job.of("RelaxForcingStream", "texts"):
        steps = [text for text in texts if text.startswith("Chunk")]
        assert len(steps) == sum(each)
        last = rf"Chunk (\d+) of \1, step {each[-1]} of {each[-1]}, 0 s left"
        chunks = int(re.fullmatch(last, steps[-1])[1])
        made = range(chunks - len(each) + 1, chunks + 1)
        told = [(c, s + 1, n) for c, n in zip(made, each, strict=True) for s in range(n)]
        chunk, step, of = told[6]
        assert steps[6].startswith(f"Chunk {chunk} of {chunks}, step {step} of {of}, ")
        assert re.match(
            r"(\d videos of )?\d+\.\d s( of video)? in \d+ s(\.|$)", texts[-1]
        )  # and what is to be said
    scales = [
        node["inputs"]["scale_by"]
        for node in job.workflow.values()
        if node["class_type"] == "ImageScaleBy"
    ]
    films = samplers if any(job.of(node, "outputs") for node in VIDEOS) else []  # or a sheet alone
    assert video_frames(server, job) == [(length, s) for s in [1] * len(films) + scales]
    assert films or len(files(server, job.of("RelaxForcingContactSheet", "outputs"))) == 1
    timelines = files(server, job.of("RelaxForcingTimeline", "outputs"))
    assert len(timelines) == len(job.of("RelaxForcingTimeline", "outputs"))
    for content in timelines:
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.width) == ("PNG", 2000)


def test_the_audition_that_is_liked_becomes_the_film(server):
    """The second half of its template, which is muted until there is something to choose."""
    tiny.pack()
    template = load(next(path for path in ROOT.glob("workflows/*.json") if "audition" in path.stem))
    folder = server.folder / "output" / "relax_forcing"
    asked = as_api(template, muted=True)
    inputs = {node["class_type"]: node["inputs"] for node in asked.values()}
    inputs["RelaxForcingSampler"]["length"] = 12 * 2 - 3
    first = {key: node for key, node in asked.items() if key in as_api(template)}
    assert server.run(first).ending == "success"
    (eight,) = saved_rollouts(folder)
    assert len(eight.latents()) == 8
    assert inputs["RelaxForcingResume"]["sample"] == 3
    inputs["RelaxForcingResume"]["rollout"], *_ = server.saved_rollouts()
    inputs["RelaxForcingStream"]["length"] = 12 * CHUNKS - 3
    job = server.run(asked)
    assert job.ending == "success", server.log()
    film, _ = saved_rollouts(folder)
    assert (film.taken_from, film.chunk_count, film.finished) == (eight.name, CHUNKS, True)
    begun = eight.latents()
    assert torch.equal(film.latents()[:, :, : begun.shape[2]], begun[2:3])
    assert job.sampled_steps == STEPS * (CHUNKS - 2)  # nothing is made twice
    (content,) = files(server, job.of("RelaxForcingStream", "outputs"))
    with av.open(io.BytesIO(content)) as container:
        assert len(list(container.decode(video=0))) == 12 * CHUNKS - 3


def test_an_interrupt_ends_the_job_and_not_the_server(server):
    path = TEXT_TO_VIDEO
    job = server.run(workflow(path, length=957), interrupt=True)
    assert job.ending == "interrupted"
    (steps,) = job.of("RelaxForcingSampler", "progress")
    assert steps[-1][0] < 10 * STEPS < steps[-1][1]
    assert job.of("RelaxForcingDecode", "outputs") == [None]
    assert server.run(workflow(path, length=9)).ending == "success"


def test_wrong_input_is_told_in_the_browser(server):
    asked = workflow(TEXT_TO_VIDEO, length=9)
    (memory,) = (n for n in asked.values() if n["class_type"] == "RelaxForcingMemory")
    memory["inputs"]["history_candidates"] = 0
    job = server.run(asked)
    assert "history_candidates" in job.ending
    assert not job.progress


def test_the_list_of_saved_videos_refreshes_itself_and_knows_their_first_words(server):
    demo = ROOT / "workflows/api/Relax Forcing demo - long video on any computer.json"
    asked = json.loads(demo.read_text("utf-8"))
    (sampler,) = (n for n in asked.values() if n["class_type"] == "RelaxForcingSampler")
    sampler["inputs"]["length"] = 21
    info = json.loads(server.fetch("/object_info/RelaxForcingResume"))["RelaxForcingResume"]
    _, choice = info["input"]["required"]["rollout"]
    assert choice["options"] == ["nothing is saved yet"]

    def listed():
        return json.loads(server.fetch(choice["remote"]["route"]))

    assert listed() == ["nothing is saved yet"]
    assert server.run(asked).ending == "success"
    (label,) = listed()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d  1\.3 s  a red circle bouncing over a striped  "
        r"64x64  all 2 chunks",
        label,
    )
    assert server.saved_rollouts() == [label]
    name, _, _ = label.partition("  ")
    for value in (label, f"{name}  64x64  1 of 2 chunks"):  # as it is, and as version 0.1 had it
        resume = {"class_type": "RelaxForcingResume", "inputs": {"rollout": value}}
        save = {"class_type": "SaveLatent", "inputs": {"samples": ["1", 0], "filename_prefix": "x"}}
        job = server.run({"1": resume, "2": save})
        assert job.ending == "success"
        assert job.of("RelaxForcingResume", "texts") in ([[label]], [None])  # kept by the host
    shutil.rmtree(server.folder / "output" / "relax_forcing")
    assert listed() == ["nothing is saved yet"]


def test_templates_and_help_pages_reach_the_browser(server):
    templates = json.loads(server.fetch("/workflow_templates"))["ComfyUI-RelaxForcing"]
    assert set(templates) == {path.stem for path in ROOT.glob("workflows/*.json")}
    base = "/api/workflow_templates/ComfyUI-RelaxForcing/"
    for name in templates:
        assert "nodes" in json.loads(server.fetch(f"{base}{name}.json"))
        assert server.fetch(f"{base}{name}.jpg").startswith(b"\xff\xd8")
    page = server.fetch("/extensions/ComfyUI-RelaxForcing/docs/RelaxForcingTimeline.md")
    assert page.startswith(b"# Relax Forcing Timeline")
    for picture in ROOT.glob("web/docs/*.webp"):
        assert (
            server.fetch(f"/extensions/ComfyUI-RelaxForcing/docs/{picture.name}")[8:12] == b"WEBP"
        )
