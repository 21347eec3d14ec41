"""A stream is killed with the real server, interrupted over HTTP, and then finished."""

import io
import json
import threading
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
import av
import crash_run
import live
import numpy
import pytest
from conftest import ROOT
from PIL import Image

CHUNKS, SAVED = 30, 4
WIDTH, HEIGHT = live.SIZE["width"], live.SIZE["height"]


def stream(**inputs) -> dict:
    path = ROOT / "workflows/api/text_to_video_stream.json"
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


def pictures(file: Path | io.BytesIO) -> numpy.ndarray:
    with av.open(str(file) if isinstance(file, Path) else file) as container:
        return numpy.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def shown(server: live.Server, job: live.Job) -> numpy.ndarray:
    """The video that the node shows when it is finished, as the browser fetches it."""
    (output,) = job.of("RelaxForcingStream", "outputs")
    assert output["animated"] == [True]
    (file,) = output["images"]
    assert file["type"] == "output" and not file["filename"].endswith(".partial.mp4")
    return pictures(io.BytesIO(server.fetch("/view", **file)))


def check_partial(partial: Path, chunks: int, whole: numpy.ndarray) -> None:
    """It plays, and only the newest of the saved chunks may be missing."""
    frames = pictures(partial)
    assert 12 * (chunks - 1) - 3 <= len(frames) <= 12 * chunks - 3
    assert numpy.array_equal(frames, whole[: len(frames)])


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
    (after_kill,) = output.rglob("*.partial.mp4")

    (second / "output").symlink_to(output)
    with live.Server(second) as server:
        job = server.run(stream(), interrupt=True)
        assert job.ending == "interrupted"
        interrupted = len(crash_run.saved_files(output))
        assert killed < interrupted < CHUNKS
        (after_interrupt,) = set(output.rglob("*.partial.mp4")) - {after_kill}

        job = server.run(stream())
        (texts,) = job.of("RelaxForcingStream", "texts")
        assert texts[0].startswith(f"Continues after {interrupted} of {CHUNKS} saved chunks")
        whole = shown(server, job)
        undisturbed = shown(server, server.run(stream(autosave=False)))

    assert whole.shape == (12 * CHUNKS - 3, HEIGHT, WIDTH, 3)
    assert numpy.array_equal(whole, undisturbed)
    check_partial(after_kill, killed, whole)
    check_partial(after_interrupt, interrupted, whole)
    assert job.previews
    for content in job.previews:  # four seconds were there before the first of these
        with Image.open(io.BytesIO(content)) as preview:
            assert preview.size == (4 * WIDTH, HEIGHT)
