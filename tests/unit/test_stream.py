"""The video file: playable at any moment, whole at the end, written while pictures are made."""

import itertools
import json
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from relax_memory.film.background import BackgroundWriter, to_bytes, write_video
from relax_memory.film.fragments import begins_with
from relax_memory.film.mp4 import ONE_THREAD, VideoWriter

WIDTH, HEIGHT = 48, 32
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (200, 120, 60), (30, 90, 220)]


def pictures(first: int, count: int) -> torch.Tensor:
    """Frames of one grey each, brighter from frame to frame: the number can be read back."""
    greys = (torch.arange(first, first + count) * 4 + 16).to(torch.uint8)
    return greys[:, None, None, None].expand(count, HEIGHT, WIDTH, 3)


def numbers(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [
            round((float(frame.to_ndarray(format="rgb24", **ONE_THREAD).mean()) - 16) / 4)
            for frame in container.decode(video=0)
        ]


def boxes(path: Path) -> list[str]:
    """Types of the top-level boxes of an MP4."""
    data, start, types = path.read_bytes(), 0, []
    while start < len(data):
        types.append(data[start + 4 : start + 8].decode())
        start += int.from_bytes(data[start : start + 4], "big")
    return types


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.dts is not None]


@pytest.fixture
def new(tmp_path):
    """Make a writer for a file in the test's folder."""

    def make(fps: float = 16.0, **settings) -> VideoWriter:
        return VideoWriter(tmp_path / "a.mp4", fps=fps, width=WIDTH, height=HEIGHT, **settings)

    return make


@pytest.mark.parametrize("appends", [[1], [1, 8, 8, 3], [5, 0, 1, 30]])
def test_the_file_has_every_appended_frame_in_order(new, appends):
    writer = new()
    for first, count in zip(itertools.accumulate([0, *appends]), appends, strict=False):
        writer.append(pictures(first, count))
    assert numbers(writer.finish()) == list(range(sum(appends)))
    assert writer.frames == sum(appends)


@pytest.mark.parametrize("fps", [1.0, 16.0, 23.976, 29.97, 59.94, 240.0])
def test_frames_follow_each_other_at_the_frame_rate(new, fps):
    writer = new(fps)
    writer.append(pictures(0, 1))
    writer.append(pictures(1, 8))
    writer.append(pictures(9, 8))
    rate = Fraction(round(fps * 1000), 1000)
    with av.open(str(writer.finish())) as container:
        stream = container.streams.video[0]
        times = [frame.pts * frame.time_base for frame in container.decode(stream)]
        assert stream.average_rate == rate
        assert stream.frames == 17
        assert container.duration / av.time_base == pytest.approx(17 / rate, abs=1e-5)
    assert times == [frame / rate for frame in range(17)]


def test_the_growing_file_plays(new):
    writer = new()
    for first in range(0, 24, 8):
        writer.append(pictures(first, 8))
        assert numbers(writer.partial) == list(range(first + 8))
        assert not writer.path.exists()


def test_the_finished_file_is_an_ordinary_one_with_the_same_pictures(new):
    writer = new()
    writer.append(pictures(0, 9))
    writer.append(pictures(9, 8))
    assert boxes(writer.partial) == ["ftyp", "moov", "moof", "mdat", "moof", "mdat"]
    growing = packets(writer.partial)
    assert writer.finish() == writer.path
    assert [box for box in boxes(writer.path) if box != "free"] == ["ftyp", "moov", "mdat"]
    assert packets(writer.path) == growing
    assert list(writer.path.parent.iterdir()) == [writer.path]


KILLED = """
import os, sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from unit.test_stream import pictures, WIDTH, HEIGHT
from relax_memory.film.mp4 import VideoWriter
writer = VideoWriter(Path({path!r}), fps=16.0, width=WIDTH, height=HEIGHT)
for first in range(0, 21, 3):
    writer.append(pictures(first, 3))
os._exit(9)
"""


def test_a_killed_writer_leaves_a_video_of_every_appended_frame(tmp_path):
    tests = Path(__file__).resolve().parent.parent
    path = tmp_path / "killed.mp4"
    script = KILLED.format(root=str(tests.parent), tests=str(tests), path=str(path))
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    partial = tmp_path / "killed.partial.mp4"
    assert numbers(partial) == list(range(21))
    partial.write_bytes(partial.read_bytes() + b"\0\0\x10\0mdat" + b"half a fragment")
    assert numbers(partial) == list(range(21))


def test_a_video_begins_with_every_state_that_it_had_and_with_no_other(new, tmp_path):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (9, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=generator)
    longer, writer = VideoWriter(tmp_path / "b.mp4", fps=16, width=WIDTH, height=HEIGHT), new()
    for images in noise.split(3):
        writer.append(images)
        longer.append(images)
    longer.append(noise)
    growing = writer.partial.read_bytes()
    video = writer.finish()
    assert not begins_with(video, longer.partial)
    assert begins_with(longer.finish(), video)
    part = tmp_path / "part"
    for size in range(0, len(growing), 97):
        part.write_bytes(growing[:size])  # cut by a power cut: whatever it shows, nothing is raised
        assert begins_with(video, part) in (True, False)
    part.write_bytes(growing)
    assert begins_with(video, part)
    for other in (b"", bytes(9), growing[:-9] + bytes(9)):
        part.write_bytes(other)
        assert not begins_with(video, part)
    assert not begins_with(tmp_path / "missing", video)


def test_metadata_is_in_the_growing_and_in_the_finished_file(new):
    workflow = {"nodes": ["moof", "Überblick", {"id": 3}], "last": None}
    writer = new(metadata={"workflow": workflow, "prompt": {"1": {}}})
    writer.append(pictures(0, 1))
    writer.append(pictures(1, 4))
    for ending in (lambda: writer.partial, writer.finish):
        with av.open(str(ending())) as container:
            assert json.loads(container.metadata["workflow"]) == workflow
            assert json.loads(container.metadata["prompt"]) == {"1": {}}
    assert numbers(writer.path) == list(range(5))


@pytest.mark.parametrize("ending", [VideoWriter.finish, VideoWriter.abandon])
def test_what_a_video_is_said_to_be_may_change_while_it_is_written(new, ending):
    workflow = {"nodes": [{"text": "a"}]}
    writer = new(metadata={"workflow": workflow}, chapters=[(0.0, "a")])
    writer.append(pictures(0, 8))
    workflow["nodes"][0]["text"] = "[0f] a\n[8f] b" + 99 * " long"
    writer.chapters = [(0.0, "a"), (0.5, "b"), (1.0, "later")]
    writer.append(pictures(8, 4))
    closed = ending(writer)
    with av.open(str(closed)) as container:
        assert json.loads(container.metadata["workflow"]) == workflow
    assert chapters_in(closed) == [("a", 0, 500), ("b", 500, 750)]
    assert numbers(closed) == list(range(12))


def chapters_in(path):
    """Title, start and end in milliseconds of every chapter of a file."""
    with av.open(str(path)) as container:
        return [
            (chapter["metadata"]["title"], chapter["start"], chapter["end"])
            for chapter in container.chapters()
            if chapter["time_base"] == Fraction(1, 1000)
        ]


SHOTS = [(0.0, "a cat"), (0.5, "猫が 走る 👩‍🚀"), (1.0625, "Straße, Übergang")]


@pytest.mark.parametrize("ending", [VideoWriter.finish, VideoWriter.abandon])
def test_the_closed_file_has_the_chapters_and_the_same_pictures(new, ending):
    writer = new(chapters=SHOTS)
    for first in range(0, 24, 8):
        writer.append(pictures(first, 8))
    growing = packets(writer.partial)
    closed = ending(writer)
    assert chapters_in(closed) == [
        ("a cat", 0, 500),
        ("猫が 走る 👩‍🚀", 500, 1063),  # up, or a player would show the picture before
        ("Straße, Übergang", 1063, 1500),
    ]
    assert packets(closed) == growing
    assert numbers(closed) == list(range(24))


def test_a_video_that_ends_early_has_the_chapters_that_have_begun(new):
    writer = new(chapters=SHOTS)
    writer.append(pictures(0, 8))
    assert chapters_in(writer.abandon()) == [("a cat", 0, 500)]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("one\r\nline\tonly ", "one line only"),
        ("", "1"),
        ("  \n", "1"),
        ("nul\0 and bell\a", "nul and bell"),
        ("half \ud83d of a pair", "half of a pair"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("🎬" * 9999, "🎬" * 59 + "…"),
        ("[5s] {a|b} = ; # \\ %", "[5s] {a|b} = ; # \\ %"),
    ],
)
def test_any_text_makes_a_title(new, text, title):
    writer = new(chapters=[(0.0, text)])
    writer.append(pictures(0, 4))
    assert chapters_in(writer.finish()) == [(title, 0, 250)]


def test_a_hundred_chapters_begin_with_their_pictures(new):
    """At a rate that milliseconds do not divide."""
    writer = new(23.976, chapters=[(number / 23.976, str(number)) for number in range(100)])
    writer.append(pictures(0, 100))
    with av.open(str(writer.finish())) as container:
        frames = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    found = chapters_in(writer.path)
    assert [title for title, _, _ in found] == [str(number) for number in range(100)]
    for (_, start, _), frame in zip(found, frames, strict=True):
        assert 0 <= start / 1000 - frame < 0.0011


def test_colours_are_kept(new):
    bars = torch.tensor(COLOURS, dtype=torch.uint8).repeat_interleave(WIDTH // 6, 0)
    writer = new()
    writer.append(bars.expand(4, HEIGHT, WIDTH, 3))
    with av.open(str(writer.finish())) as container:
        for frame in container.decode(video=0):
            seen = frame.to_ndarray(format="rgb24", **ONE_THREAD)[
                HEIGHT // 2, WIDTH // 12 :: WIDTH // 6
            ]
            assert np.abs(seen.astype(int) - COLOURS).max() <= 4


def test_a_name_is_never_written_twice(new):
    first = new()
    with pytest.raises(FileExistsError):
        new()
    first.append(pictures(0, 3))
    before = first.finish().read_bytes()
    with pytest.raises(FileExistsError):
        new()
    assert list(first.path.parent.iterdir()) == [first.path]
    assert first.path.read_bytes() == before


def test_nothing_appended_leaves_nothing(new):
    writer = new()
    assert writer.abandon() is None
    assert list(writer.path.parent.iterdir()) == []


def test_what_is_finished_cannot_be_abandoned(new):
    writer = new()
    writer.append(pictures(0, 1))
    path = writer.finish()
    assert writer.abandon() is None
    assert numbers(path) == [0]


def test_wrong_sizes_and_rates_are_refused(tmp_path, new):
    with pytest.raises(ValueError, match="47x32"):
        VideoWriter(tmp_path / "b.mp4", fps=16, width=47, height=32)
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps"):
            new(fps)
    with pytest.raises(ValueError, match="16, 16"):
        new().append(torch.zeros(1, 16, 16, 3, dtype=torch.uint8))


FULL = """
import resource, sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
import torch
from unit.test_stream import WIDTH, HEIGHT
from relax_memory.film.mp4 import VideoWriter
generator = torch.Generator().manual_seed(0)
noise = torch.randint(0, 256, (4, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=generator)
writer = VideoWriter(Path({path!r}), fps=16.0, width=WIDTH, height=HEIGHT)
writer.append(noise)
size = writer.partial.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + {room}, size + {room}))
{then}
"""


def run_full(path: Path, room: int, then: str) -> str:
    """Run `then` where files cannot grow more than `room` bytes beyond four frames."""
    tests = Path(__file__).resolve().parent.parent
    paths = {"root": str(tests.parent), "tests": str(tests), "path": str(path)}
    script = FULL.format(room=room, then=then, **paths)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_keeps_what_was_written(tmp_path):
    path = tmp_path / "full.mp4"
    then = "try: writer.append(noise)\nexcept RuntimeError as e: print(e, writer.abandon())"
    message = run_full(path, 500, then)
    assert "first 4 frames" in message
    assert "full.partial.mp4" in message
    assert len(packets(tmp_path / "full.partial.mp4")) == 4
    assert boxes(tmp_path / "full.partial.mp4") == ["ftyp", "moov", "moof", "mdat"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_too_full_for_the_ordinary_file_gets_the_one_in_fragments(tmp_path):
    path = tmp_path / "full.mp4"
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
    assert str(path) in run_full(path, 0, limit + "print(writer.finish())")
    assert boxes(path) == ["ftyp", "moov", "moof", "mdat"]
    assert list(tmp_path.iterdir()) == [path]


def hold_back(writer: VideoWriter) -> threading.Event:
    """Let the writer wait until the event is set."""
    gate, write = threading.Event(), writer.append
    writer.append = lambda images: gate.wait(30) and write(images)
    return gate


def test_pictures_are_made_while_earlier_ones_are_written(new):
    writer = new()
    gate = hold_back(writer)

    def pieces():
        for number in range(6):
            if number == 2:  # one is being written, one waits
                gate.set()
            yield pictures(number, 1)

    assert numbers(write_video(pieces(), writer)) == list(range(6))


def test_the_maker_waits_for_a_slow_writer(new):
    writer = new()
    gate, background = hold_back(writer), BackgroundWriter(writer, depth=2)
    for number in range(2):
        background.append(pictures(number, 1))
    third = threading.Thread(target=background.append, args=(pictures(2, 1),))
    third.start()
    third.join(0.3)
    assert third.is_alive()
    gate.set()
    third.join(30)
    assert numbers(background.finish()) == [0, 1, 2]


def test_what_stops_the_maker_passes_through_and_what_was_made_stays(new):
    class Interrupt(BaseException):
        pass

    writer, interrupt = new(), Interrupt()

    def pieces():
        yield pictures(0, 3)
        yield pictures(3, 3)
        raise interrupt

    with pytest.raises(Interrupt) as caught:
        write_video(pieces(), writer)
    assert caught.value is interrupt
    assert numbers(writer.partial) == list(range(6))
    assert not writer.path.exists()


def test_what_stops_the_writer_stops_the_maker(new):
    writer, made = new(), []

    def pieces():
        yield pictures(0, 3)
        yield torch.zeros(3, 16, 16, 3, dtype=torch.uint8)
        for number in range(100):
            made.append(number)
            yield pictures(3, 3)

    with pytest.raises(ValueError, match="16, 16"):
        write_video(pieces(), writer)
    assert len(made) <= 3
    assert not writer.path.exists()
    assert numbers(writer.partial) == [0, 1, 2]


def test_nothing_follows_a_frame_that_was_not_written(new):
    writer = new()
    writer.append(pictures(0, 3))
    writer._file.close()
    with pytest.raises(RuntimeError, match="closed"):
        writer.append(pictures(3, 3))
    assert numbers(writer.partial) == [0, 1, 2]


def test_bytes_are_the_nearest_and_have_three_channels():
    images = torch.tensor([-1.0, 0.0, 0.5, 0.999, 1.0, 7.0]).view(6, 1, 1, 1).expand(6, 2, 2, 4)
    assert to_bytes(images)[:, 0, 0].tolist() == [[v] * 3 for v in (0, 0, 128, 255, 255, 255)]
    assert to_bytes(images.half()).dtype == torch.uint8
