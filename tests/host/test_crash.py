"""Whatever ends a run, nothing finished is lost: killed processes, two at once, a full disk."""

import random
import shutil
import subprocess
import sys
import time

import crash_run
import pytest
import safetensors.torch
import torch
from conftest import ROOT

KILLS = 5


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The latents that every run must end with, and the seconds that a run takes."""
    crash_run.sample(tmp_path_factory.mktemp("warm"), chunks=2)
    start = time.perf_counter()
    latents, _ = crash_run.sample(tmp_path_factory.mktemp("output"))
    return latents, time.perf_counter() - start


def result_of(process, file):
    process.join(120)
    assert process.exitcode == 0
    return safetensors.torch.load_file(file)["latents"]


def test_killed_at_random_moments_it_goes_on_bit_for_bit(tmp_path, undisturbed):
    latents, seconds = undisturbed
    for chunks in random.sample(crash_run.FURTHER, KILLS):
        before = crash_run.saved_files(tmp_path)
        process = crash_run.start(tmp_path, tmp_path / "result")
        crash_run.wait(tmp_path, len(before) + chunks, seconds / crash_run.CHUNKS, process.is_alive)
        process.kill()
        process.join()
        assert before.items() <= crash_run.saved_files(tmp_path).items()
    before = crash_run.saved_files(tmp_path)
    assert sum(crash_run.FURTHER) <= len(before) < crash_run.CHUNKS
    last = crash_run.start(tmp_path, tmp_path / "result")
    assert torch.equal(result_of(last, tmp_path / "result"), latents)
    after = crash_run.saved_files(tmp_path)
    assert before.items() <= after.items()
    assert len(after) == crash_run.CHUNKS


def test_two_at_once_do_not_disturb_each_other(tmp_path, undisturbed):
    latents, _ = undisturbed
    files = [tmp_path / "one", tmp_path / "two"]
    processes = crash_run.start_together(tmp_path, files)
    for process, file in zip(processes, files, strict=True):
        assert torch.equal(result_of(process, file), latents)
    assert len(list(tmp_path.glob("relax_forcing/*/"))) == 2  # neither took up the other's


LIMITED = """
import resource, sys
from pathlib import Path
import conftest, crash_run, safetensors.torch, torch

torch.set_num_threads(1)
disk, result = map(Path, sys.argv[1:])
crash_run.sample(disk, chunks=4)
before = crash_run.saved_files(disk)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
smallest = min(len(content) for _, content in before.values())
resource.setrlimit(resource.RLIMIT_FSIZE, (smallest - 1, most))
try:
    crash_run.sample(disk)
except OSError as error:
    print(error)
assert crash_run.saved_files(disk) == before
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
latents, _ = crash_run.sample(disk)
assert before.items() <= crash_run.saved_files(disk).items()
safetensors.torch.save_file({"latents": latents}, result)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_chunk_that_cannot_be_written_stops_with_a_message_and_the_rest_follows(
    tmp_path, undisturbed
):
    """A limit on the size of files, which chunks reach; any POSIX system has it."""
    disk, file = tmp_path / "disk", tmp_path / "result"
    command = [sys.executable, "-c", LIMITED, disk, file]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Chunk 5 of 12 could not be saved in" in done.stdout
    assert "(File too large). The 4 before it are safe: make room" in done.stdout
    assert torch.equal(safetensors.torch.load_file(file)["latents"], undisturbed[0])


FULL_DISK = """
import subprocess, sys
from pathlib import Path
import conftest, crash_run, safetensors.torch, torch

torch.set_num_threads(1)
disk, result = map(Path, sys.argv[1:])
try:
    crash_run.sample(disk)
except OSError as error:
    print(error)
before = crash_run.saved_files(disk)
subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
latents, _ = crash_run.sample(disk)
after = crash_run.saved_files(disk)
assert 0 < len(before) < len(after) == crash_run.CHUNKS
assert before.items() <= after.items()
safetensors.torch.save_file({"latents": latents}, result)
"""
IN_OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.call((*IN_OWN_MOUNTS, "true")) != 0,
    reason="a small file system for one process needs Linux with user namespaces",
)
def test_a_full_disk_stops_with_a_message_and_goes_on_once_there_is_room(tmp_path, undisturbed):
    """The disk is a tmpfs of 64 kB, which only the child process sees."""
    latents, _ = undisturbed
    disk, file = tmp_path / "disk", tmp_path / "result"
    disk.mkdir()
    shell = 'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" -c "$3" "$1" "$4"'
    command = [*IN_OWN_MOUNTS, "sh", "-c", shell, "", disk, sys.executable, FULL_DISK, file]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "could not be saved in" in done.stdout
    assert "(No space left on device). The" in done.stdout
    assert "before it are safe: make room and queue again to continue" in done.stdout
    assert torch.equal(safetensors.torch.load_file(file)["latents"], latents)
