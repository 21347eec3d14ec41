"""A stream is killed with the real server, interrupted over HTTP, and then finished."""

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import aiohttp
import crash_run
import live
import numpy
import pytest
from conftest import ROOT

CHUNKS, SAVED = 20, 4
WIDTH, HEIGHT = live.SIZE["width"], live.SIZE["height"]


def stream(**inputs) -> dict:
    path = ROOT / "workflows/api/Relax Forcing long video stream - self forcing.json"
    workflow = live.small(json.loads(path.read_text("utf-8")), length=12 * CHUNKS - 3)
    (node,) = (n for n in workflow.values() if n["class_type"] == "RelaxForcingStream")
    node["inputs"] |= inputs
    return workflow


def run_until_killed(server: live.Server, output: Path) -> None:
    def run():
        with suppress(aiohttp.ClientError, KeyError):
            server.run(stream())

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive() and len(crash_run.saved_files(output)) < SAVED:
        time.sleep(0.01)
    server.__exit__()
    thread.join()


def shown(server: live.Server, job: live.Job) -> numpy.ndarray:
    """The video that the node shows when it is finished, as the browser fetches it."""
    (output,) = job.of("RelaxForcingStream", "outputs")
    assert output["animated"] == [True]
    (file,) = output["images"]
    assert file["type"] == "output" and not file["filename"].endswith(".partial.mp4")
    return crash_run.pictures(io.BytesIO(server.fetch("/view", **file)))


@pytest.mark.timeout(600)
def test_every_stopped_stream_plays_and_the_next_has_the_whole_video(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    output = first / "output"
    with live.Server(first) as server:
        run_until_killed(server, output)
    killed = len(crash_run.saved_files(output))
    assert SAVED <= killed < CHUNKS
    (partial,) = output.rglob("*.partial.mp4")
    after_kill = io.BytesIO(partial.read_bytes())

    (second / "output").symlink_to(output)
    with live.Server(second) as server:
        job = server.run(stream(), interrupt=True)
        assert job.ending == "interrupted"
        interrupted = len(crash_run.saved_files(output))
        assert killed < interrupted < CHUNKS
        (texts,) = job.of("RelaxForcingStream", "texts")
        assert texts[-1].startswith(f"{interrupted} of {CHUNKS} chunks are saved: queue again")
        (partial,) = set(output.rglob("*.partial.mp4")) - {partial}
        after_interrupt = io.BytesIO(partial.read_bytes())

        job = server.run(stream())
        (texts,) = job.of("RelaxForcingStream", "texts")
        assert texts[0].startswith(f"Continues after {interrupted} of {CHUNKS} saved chunks")
        assert texts[interrupted] == f"Chunk {interrupted} of {CHUNKS} is saved: decoding it"
        whole = shown(server, job)
        assert not list(output.rglob("*.partial.mp4"))
        undisturbed = shown(server, server.run(stream(autosave=False)))

    assert whole.shape == (12 * CHUNKS - 3, HEIGHT, WIDTH, 3)
    assert numpy.array_equal(whole, undisturbed)
    seen = crash_run.chunks_in(after_kill, whole)
    assert killed <= seen <= killed + 1  # in the file first, and saved then
    assert crash_run.chunks_in(after_interrupt, whole) == interrupted
    assert not job.previews  # the browser would take the finished video for one of them
    (outputs,) = job.of("RelaxForcingStream", "shown")
    names = [file["filename"] for output in outputs for file in output["images"]]
    assert len(names) >= 2
    assert all(name.endswith(".partial.mp4") for name in names[:-1])
    assert names[-1] == names[0].replace(".partial", "")
    assert texts[-1].startswith("15 s of video in ")


def test_two_servers_on_one_output_folder_do_not_disturb_each_other(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    output = first / "output"
    output.mkdir(parents=True)
    second.mkdir()
    (second / "output").symlink_to(output)
    with live.Server(first) as one, live.Server(second) as two, ThreadPoolExecutor(2) as pool:
        for server in (one, two):  # loads the models, so that both begin at the same moment
            server.run(stream(length=9, autosave=False))
        before = len(list(output.rglob("*.mp4")))
        jobs = list(pool.map(lambda server: server.run(stream()), (one, two)))
        assert [job.ending for job in jobs] == ["success"] * 2
        mine, theirs = (shown(*pair) for pair in zip((one, two), jobs, strict=True))
    assert mine.shape == (12 * CHUNKS - 3, HEIGHT, WIDTH, 3)
    assert numpy.array_equal(mine, theirs)
    assert len(list(output.rglob("*.mp4"))) == before + 2
    assert len(list(output.glob("relax_forcing/*/"))) == 2  # at once: neither took up the other's
