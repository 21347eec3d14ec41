"""Whatever stops a stream, its video has every saved chunk, and the next run has all of it."""

import copy
import functools
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import crash_run
import folder_paths
import numpy
import pytest
import safetensors.torch
import tiny
import tiny_vae
import torch
from comfy.model_management import InterruptProcessingException
from conftest import ROOT

KILLS, CHUNKS, LONG = 5, 5, 30
NETWORK = tiny.model("wan").model.diffusion_model  # the one that `tiny.remembering` has
DECODER = tiny_vae.vae().first_stage_model.decoder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The latents and pictures that every run must end with, and the seconds that a run takes."""
    crash_run.stream(tmp_path_factory.mktemp("warm"), chunks=2)
    start = time.perf_counter()
    latents, video = crash_run.stream(tmp_path_factory.mktemp("output"), autosave=False)
    return latents, crash_run.pictures(video), time.perf_counter() - start


@pytest.fixture
def short():
    """How many frames `CHUNKS` chunks have in latents and in pictures."""
    return 3 * CHUNKS, 12 * CHUNKS - 3


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", None)  # put back after the test
    return tmp_path / "output"


def interrupt():
    comfy.model_management.interrupt_current_processing()


def out_of_memory():
    raise torch.OutOfMemoryError("Allocation on device")


@contextmanager
def accident(layer, happen, when):
    """Something happens before each call of a layer, as soon as `when`."""
    hook = layer.register_forward_pre_hook(lambda *_: happen() if when() else None)
    try:
        yield
    finally:
        hook.remove()


ACCIDENTS = {
    "interrupt, sampling": (NETWORK, interrupt, InterruptProcessingException),
    "interrupt, decoding": (DECODER.conv1, interrupt, InterruptProcessingException),
    "no memory, sampling": (NETWORK, out_of_memory, torch.OutOfMemoryError),
    "no memory, decoding": (DECODER.conv1, out_of_memory, RuntimeError),
}


@pytest.mark.parametrize("chunks", [0, 1, 4])
@pytest.mark.parametrize("name", ACCIDENTS)
def test_an_accident_costs_the_chunk_in_work_and_the_video_has_all_others(
    output, undisturbed, short, name, chunks
):
    latents, whole, _ = undisturbed
    layer, happen, error = ACCIDENTS[name]
    during = accident(layer, happen, lambda: len(crash_run.saved_files(output)) == chunks)
    with during, pytest.raises(error) as stopped:
        crash_run.stream(output, chunks=CHUNKS)
    if name == "no memory, decoding":
        assert "use a smaller decoder such as lighttaew2_1" in str(stopped.value)
    before = crash_run.saved_files(output)
    assert len(before) == chunks
    partials = list(output.rglob("*.partial.mp4"))
    assert [crash_run.chunks_in(partial, whole) for partial in partials] == [chunks] * (chunks > 0)

    again, video = crash_run.stream(output, chunks=CHUNKS)
    assert torch.equal(again, latents[:, :, : short[0]])
    assert numpy.array_equal(crash_run.pictures(video), whole[: short[1]])
    assert before.items() <= crash_run.saved_files(output).items()
    assert list(output.rglob("*.mp4")) == [video]


def test_a_video_whose_first_chunk_was_not_saved_is_replaced_too(output, undisturbed, monkeypatch):
    replace = os.replace

    def no_chunk(source, target):
        if str(target).endswith(".safetensors"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Chunk 1 of 5 could not be"):
        patch.setattr(os, "replace", no_chunk)
        crash_run.stream(output, chunks=CHUNKS)
    (partial,) = crash_run.unfinished_videos(output)
    assert crash_run.chunks_in(partial, undisturbed[1]) == 1
    _, video = crash_run.stream(output, chunks=CHUNKS)
    assert list(output.rglob("*.mp4")) == [video]
    (rollout,) = output.glob("relax_forcing/*")
    assert len(list(rollout.glob("*.safetensors"))) == CHUNKS


def test_memory_that_runs_out_once_while_decoding_changes_nothing(output, undisturbed, short):
    failed = []

    def once():
        if not failed:
            failed.append(True)
            out_of_memory()

    with accident(DECODER.conv1, once, lambda: len(crash_run.saved_files(output)) == 2):
        latents, video = crash_run.stream(output, chunks=CHUNKS)
    assert failed
    assert torch.equal(latents, undisturbed[0][:, :, : short[0]])
    assert numpy.array_equal(crash_run.pictures(video), undisturbed[1][: short[1]])


def test_killed_at_random_moments_every_saved_chunk_can_be_seen(output, undisturbed, tmp_path):
    latents, whole, seconds = undisturbed
    result = tmp_path / "result"
    for chunks in random.sample(crash_run.FURTHER, KILLS):
        saved, videos = crash_run.saved_files(output), crash_run.unfinished_videos(output)
        process = crash_run.start(output, result, crash_run.stream)
        again = 0 if chunks else len(saved) / 2  # what is saved is decoded again first
        moment = (1 + again) * seconds / crash_run.CHUNKS
        crash_run.wait(output, len(saved) + chunks, moment, process.is_alive)
        process.kill()
        process.join()
        after = crash_run.saved_files(output)
        assert saved.items() <= after.items()
        new = crash_run.unfinished_videos(output) - videos
        (seen,) = [crash_run.chunks_in(video, whole) for video in new] or [0]
        assert seen <= len(after) + 1  # killed after the newest was written and before it was saved
        assert len(after) in (len(saved), seen, seen - 1)
    assert sum(crash_run.FURTHER) <= len(after) < crash_run.CHUNKS
    last = crash_run.start(output, result, crash_run.stream)
    last.join(120)
    assert last.exitcode == 0
    assert torch.equal(safetensors.torch.load_file(result)["latents"], latents)
    assert after.items() <= crash_run.saved_files(output).items()
    assert not crash_run.unfinished_videos(output)
    (video,) = output.rglob("live_?????_.mp4")
    assert numpy.array_equal(crash_run.pictures(video), whole)


def two_at_once(output, results):
    """Two processes that make the same video, returned when both have saved a chunk."""
    run = functools.partial(crash_run.stream, chunks=LONG)
    processes = crash_run.start_together(output, results, run)
    while len({Path(file).parent for file in crash_run.saved_files(output)}) < 2:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.005)
    return processes


def test_two_at_once_under_one_name_do_not_disturb_each_other(output, undisturbed, tmp_path):
    latents, whole, _ = undisturbed
    results = [tmp_path / "one", tmp_path / "two"]
    for process in two_at_once(output, results):
        process.join(120)
        assert process.exitcode == 0
    videos = sorted(output.rglob("*.mp4"))
    assert [video.name for video in videos] == ["live_00001_.mp4", "live_00002_.mp4"]
    one, two = (safetensors.torch.load_file(file)["latents"] for file in results)
    assert torch.equal(one, two)
    assert torch.equal(one[:, :, : latents.shape[2]], latents)
    one, two = map(crash_run.pictures, videos)
    assert numpy.array_equal(one, two)
    assert numpy.array_equal(one[: len(whole)], whole)


def test_two_that_are_killed_each_keep_their_video_until_it_is_whole(output, undisturbed, tmp_path):
    for process in two_at_once(output, [tmp_path / "one", tmp_path / "two"]):
        process.kill()
        process.join()
    assert len(crash_run.unfinished_videos(output)) == 2
    latents, video = crash_run.stream(output, chunks=LONG)  # goes on from one of them
    whole = crash_run.pictures(video)
    assert torch.equal(latents[:, :, : 3 * crash_run.CHUNKS], undisturbed[0])
    assert numpy.array_equal(whole[: len(undisturbed[1])], undisturbed[1])
    (other,) = crash_run.unfinished_videos(output)
    assert crash_run.chunks_in(other, whole) > 0


def another_device(vae):
    """The same VAE under another name of its device, so that it decodes beside the model."""
    vae = copy.copy(vae)
    vae.device = torch.device("cpu", 0)
    return vae


@pytest.mark.parametrize("name", ACCIDENTS)
def test_beside_the_next_chunk_only_the_one_in_the_decoder_may_be_missing(
    output, undisturbed, short, name
):
    latents, whole, _ = undisturbed
    layer, happen, error = ACCIDENTS[name]
    vae = another_device(tiny_vae.vae())
    during = accident(layer, happen, lambda: len(crash_run.saved_files(output)) == 3)
    with during, pytest.raises(error):
        crash_run.stream(output, chunks=CHUNKS, vae=vae)
    saved = len(crash_run.saved_files(output))
    (partial,) = crash_run.unfinished_videos(output)
    seen = crash_run.chunks_in(partial, whole)
    assert saved in (3, 4)
    decoder_goes_on = name == "no memory, sampling"  # an interrupt stops whoever sees it first
    assert seen == saved if decoder_goes_on else saved - 1 <= seen <= saved
    again, video = crash_run.stream(output, chunks=CHUNKS, vae=vae)
    assert torch.equal(again, latents[:, :, : short[0]])
    assert numpy.array_equal(crash_run.pictures(video), whole[: short[1]])
    assert list(output.rglob("*.mp4")) == [video]


FULL_DISK = """
import resource, subprocess, sys
from pathlib import Path
import conftest, crash_run, numpy, safetensors.torch, torch

torch.set_num_threads(1)
disk, result, kind = Path(sys.argv[1]), *sys.argv[2:]
if kind == "limit":
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, most))
try:
    crash_run.stream(disk)
except (OSError, RuntimeError) as error:
    print(error)
before = crash_run.saved_files(disk)
(partial,) = crash_run.unfinished_videos(disk)
seen = crash_run.pictures(partial)
if kind == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
else:
    subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
latents, video = crash_run.stream(disk)
after = crash_run.saved_files(disk)
assert 0 < len(before) < len(after) == crash_run.CHUNKS
assert before.items() <= after.items()
assert list(disk.rglob("*.mp4")) == [video]
pictures = torch.from_numpy(crash_run.pictures(video))
content = {"latents": latents, "pictures": pictures, "seen": torch.from_numpy(seen)}
safetensors.torch.save_file(content | {"saved": torch.tensor(len(before))}, result)
"""
IN_OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def run_full(command, disk, kind, undisturbed) -> tuple[int, int, str]:
    """Run in a process with little room: chunks saved and chunks seen then, and what was said."""
    latents, whole, _ = undisturbed
    result = disk.parent / "result"
    done = subprocess.run(
        [*command, sys.executable, "-c", FULL_DISK, disk, result, kind],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    content = safetensors.torch.load_file(result)
    assert torch.equal(content["latents"], latents)
    assert numpy.array_equal(content["pictures"].numpy(), whole)
    seen = content["seen"].numpy()
    assert numpy.array_equal(seen, whole[: len(seen)])
    return int(content["saved"]), len(seen), done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_video_that_cannot_grow_stops_with_a_message_and_goes_on_once_it_can(
    tmp_path, undisturbed
):
    """A limit on the size of files, which only the video reaches; any POSIX system has it."""
    saved, seen, said = run_full([], tmp_path / "disk", "limit", undisturbed)
    assert seen == 12 * saved - 3
    assert f"The video could not be written beyond its first {seen} frames (File too large)" in said
    assert "make room in" in said
    assert "and queue again. What was written plays from live_00001_.partial.mp4." in said


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.call((*IN_OWN_MOUNTS, "true")) != 0,
    reason="a small file system for one process needs Linux with user namespaces",
)
def test_a_full_disk_stops_with_a_message_and_goes_on_once_there_is_room(tmp_path, undisturbed):
    """The disk is a small tmpfs, which only the child process sees."""
    disk = tmp_path / "disk"
    disk.mkdir()
    shell = f'mount -t tmpfs -o size=96k tmpfs "{disk}" && exec "$@"'
    command = [*IN_OWN_MOUNTS, "sh", "-c", shell, ""]
    saved, seen, said = run_full(command, disk, "tmpfs", undisturbed)
    assert seen in (12 * saved - 3, 12 * saved + 9)  # the video, or the chunk after it, was too big
    assert "(No space left on device)" in said
    assert "make room" in said
