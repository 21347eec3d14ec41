"""Files that others hold for a moment, disks that offer less than all, videos that were stopped."""

import builtins
import errno
import json
import os
from pathlib import Path

import av
import pytest
import torch
from unit.test_state import chunk, description
from unit.test_stream import HEIGHT, WIDTH, boxes, numbers, packets, pictures

from relax_memory import disk
from relax_memory.film import fragments
from relax_memory.film.mp4 import VideoWriter
from relax_memory.saved.chunk import SavedChunk
from relax_memory.saved.rollout import SavedRollout


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that were made, none of which takes time."""
    made = []
    monkeypatch.setattr(disk.time, "sleep", made.append)
    return made


@pytest.fixture
def refuse(monkeypatch):
    """Let a function of the system refuse its first calls, and count all of them."""

    def refuse(module, name, code, times=10**9, when=lambda *_: True):
        act, calls = getattr(module, name), []

        def acting(*args, **kwargs):
            if when(*map(str, args)):
                calls.append(args)
                if len(calls) <= times:
                    raise OSError(code, os.strerror(code))
            return act(*args, **kwargs)

        monkeypatch.setattr(module, name, acting)
        return calls

    return refuse


def writer(folder, name="a.mp4", **settings):
    return VideoWriter(folder / name, fps=16.0, width=WIDTH, height=HEIGHT, **settings)


def make_chunk(folder):
    chunk(0).write(folder)
    assert SavedChunk.read(*folder.iterdir()).key == chunk(0).key


def make_description(folder):
    saved = SavedRollout(folder)
    saved.describe(description())
    assert saved.description == description()


def make_video(folder):
    video = writer(folder)
    video.append(pictures(0, 3))
    assert numbers(video.finish()) == [0, 1, 2]
    assert [path.name for path in folder.iterdir()] == ["a.mp4"]


def make_and_delete_rollout(folder):
    saved = SavedRollout(folder / "rollout")
    saved.folder.mkdir()
    make_chunk(saved.folder)
    make_description(saved.folder)
    assert saved.delete()
    assert not saved.folder.exists()


MAKE = {
    "chunk": make_chunk,
    "description": make_description,
    "video": make_video,
    "rollout, deleted": make_and_delete_rollout,
}


# --- held for a moment ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EBUSY])
@pytest.mark.parametrize("function", [(os, "replace"), (builtins, "open"), (os, "unlink")])
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_file_that_is_held_for_a_moment_is_written_all_the_same(
    tmp_path, refuse, pauses, make, function, code
):
    mine = lambda *args: str(tmp_path) in args[0]  # noqa: E731
    calls = refuse(*function, code, times=len(disk.PAUSES_SECONDS), when=mine)
    make(tmp_path)
    assert bool(pauses) == bool(calls)
    assert sum(pauses) < 3 * len(calls) + 3


def test_what_is_held_for_good_is_said_after_a_while(tmp_path, refuse, pauses):
    refuse(os, "replace", errno.EACCES)
    with pytest.raises(PermissionError):
        chunk(0).write(tmp_path)
    assert not list(tmp_path.iterdir())
    assert sum(pauses) == sum(disk.PAUSES_SECONDS)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.ENAMETOOLONG, errno.ENOENT])
def test_nobody_waits_for_what_waiting_cannot_mend(tmp_path, refuse, pauses, code):
    refuse(os, "replace", code)
    with pytest.raises(OSError):
        chunk(0).write(tmp_path)
    assert not pauses


def test_nobody_waits_for_a_folder_that_is_not_to_be_written_to(tmp_path, pauses, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError):
        chunk(0).write(tmp_path)
    assert not pauses


def test_a_finished_video_whose_name_is_refused_keeps_the_one_it_has(tmp_path, refuse, caplog):
    refuse(os, "replace", errno.EACCES, when=lambda source, target: target.endswith("a.mp4"))
    video = writer(tmp_path)
    video.append(pictures(0, 3))
    video.append(pictures(3, 4))
    assert video.finish() == video.partial
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.mp4"]
    assert "moof" not in boxes(video.partial)  # whole, under whichever name
    assert numbers(video.partial) == list(range(7))
    assert "a.mp4 cannot have its name" in caplog.text
    assert video.abandon() is None


def test_a_finished_video_that_cannot_be_renamed_at_all_stays_in_fragments(tmp_path, refuse):
    refuse(os, "replace", errno.EBUSY)
    video = writer(tmp_path)
    video.append(pictures(0, 3))
    assert numbers(video.finish()) == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.mp4"]


# --- what a disk does not offer, and what it says -------------------------------------------------


@pytest.mark.parametrize(
    "code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EROFS]
)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_disk_that_offers_no_fsync_is_written_to(tmp_path, refuse, make, code):
    assert refuse(os, "fsync", code) == []
    make(tmp_path)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("make", [make_chunk, make_description])
def test_a_disk_that_has_lost_what_was_written_says_so(tmp_path, refuse, make, code):
    refuse(os, "fsync", code)
    with pytest.raises(OSError, match=os.strerror(code)):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


ADVICE = {
    errno.ENOSPC: "make room in DIR",
    errno.EDQUOT: "make room in DIR",
    errno.EROFS: "put DIR on a disk that can be written to",
    errno.EACCES: "allow writing in DIR",
    errno.EIO: "check the disk that has DIR",
}


@pytest.mark.parametrize("code", ADVICE)
def test_a_video_that_cannot_be_written_says_what_helps_and_only_what_is_there(
    tmp_path, refuse, code
):
    video = writer(tmp_path)
    advice = ADVICE[code].replace("DIR", str(tmp_path))
    if code in disk.LOST:
        refuse(os, "fsync", code)
    else:
        video._file.close()
        video._file = FullFile(video.partial, code)
    with pytest.raises(RuntimeError) as refusal:
        video.append(pictures(0, 3))
    said = str(refusal.value)
    assert said.startswith(f"The video could not be written ({os.strerror(code)}): {advice}")
    assert "plays" not in said and "first" not in said  # there is nothing that could
    assert video.abandon() is None
    assert not list(tmp_path.iterdir())


class FullFile:
    """An open file on a disk that refuses every write."""

    closed = False

    def __init__(self, path, code):
        self._code = code
        path.touch()

    def write(self, data):
        raise OSError(self._code, os.strerror(self._code))

    def tell(self):
        return 0

    def truncate(self, size):
        raise OSError(self._code, os.strerror(self._code))

    def close(self):
        self.closed = True


# --- videos that were stopped ---------------------------------------------------------------------


def stopped(folder, name="a.mp4", cut=b""):
    """What a kill leaves of a video of 11 frames."""
    video = writer(folder, name, metadata={"workflow": {"nodes": ["ä" * 10**5]}})
    for first, count in ((0, 3), (3, 8)):
        video.append(pictures(first, count))
    video._file.write(cut)
    video._file.close()
    return video.partial


def assert_closed(path, frames=11):
    """An ordinary MP4 that says how long it is and can be sought in."""
    assert [box for box in boxes(path) if box != "free"] == ["ftyp", "moov", "mdat"]
    assert numbers(path) == list(range(frames))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.frames == frames
        assert container.duration / av.time_base == pytest.approx(frames / 16, abs=1e-3)
        second = 3 / 16 if frames > 3 else 0
        container.seek(int(second / stream.time_base), stream=stream)
        assert next(container.decode(stream)).time == pytest.approx(second)


def test_a_video_that_was_stopped_is_closed_under_its_partial_name(tmp_path):
    video = writer(tmp_path)
    video.append(pictures(0, 3))
    video.append(pictures(3, 8))
    before = packets(video.partial)
    assert video.abandon() == video.partial
    assert_closed(video.partial)
    assert packets(video.partial) == before
    assert list(tmp_path.iterdir()) == [video.partial]


@pytest.mark.parametrize("cut", [b"", b"\0\0\x10\0mdat" + b"half", b"\0\0"])
def test_one_that_a_kill_left_can_be_closed_later(tmp_path, cut):
    partial = stopped(tmp_path, cut=cut)
    with av.open(str(partial)) as container:
        workflow = container.metadata["workflow"]
    assert fragments.close(partial)
    assert_closed(partial)
    with av.open(str(partial)) as container:
        assert container.metadata["workflow"] == workflow
    assert not fragments.close(partial)  # once is enough
    assert list(tmp_path.iterdir()) == [partial]


@pytest.mark.parametrize("cut", [0, 50])
def test_one_that_a_kill_left_says_of_itself_what_it_had_last(tmp_path, cut):
    metadata = {"prompt": "first"}
    video = writer(tmp_path, metadata=metadata)
    for number, words in enumerate(("first", "second", "second", "ü" * 10**5)):
        metadata["prompt"] = words
        video.append(pictures(3 * number, 3))
    video._file.truncate(video._file.tell() - cut)
    video._file.close()
    told = b"RelaxForcingTags"
    assert video.partial.read_bytes().count(told) == 2
    shown = packets(video.partial)[: 4 - bool(cut)]
    assert fragments.close(video.partial)
    assert_closed(video.partial, frames=9 if cut else 12)
    assert packets(video.partial)[: len(shown)] == shown
    with av.open(str(video.partial)) as container:
        assert container.metadata["prompt"] == json.dumps(metadata["prompt"])
    assert told not in video.partial.read_bytes()


def test_a_fragment_that_was_cut_short_is_left_out(tmp_path):
    partial = stopped(tmp_path)
    data = partial.read_bytes()
    for size in range(len(data) - 1, data.rindex(b"moof") - 5, -37):
        partial.write_bytes(data[:size])
        assert fragments.close(partial)
        assert_closed(partial, frames=3)


def test_whatever_a_power_cut_left_nothing_is_raised_and_nothing_lost(tmp_path):
    partial = stopped(tmp_path)
    data = partial.read_bytes()
    for size in range(0, data.index(b"moof"), 997):
        partial.write_bytes(data[:size])
        assert not fragments.close(partial)
        assert partial.read_bytes() == data[:size]


def test_a_video_that_is_being_written_is_left_alone(tmp_path):
    video = writer(tmp_path)
    video.append(pictures(0, 3))
    before = video.partial.read_bytes()
    assert not fragments.close(video.partial)
    assert video.partial.read_bytes() == before
    video.append(pictures(3, 8))
    assert_closed(video.finish())


def foreign(path: Path) -> None:
    """A video in fragments that has sound."""
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height = WIDTH, HEIGHT
        sound = container.add_stream("aac", rate=8000)
        for image in pictures(0, 3).numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        samples = torch.zeros(1, 1024).numpy()
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(sound.encode(frame))
        for ending in (stream, sound):
            container.mux(ending.encode(None))


def test_what_is_not_ours_is_left_alone(tmp_path):
    foreign(tmp_path / "sound.partial.mp4")
    stopped(tmp_path).rename(tmp_path / "a.mp4")
    (tmp_path / "text.partial.mp4").write_text("moof")
    (tmp_path / "empty.partial.mp4").touch()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in (*before, tmp_path / "missing.partial.mp4"):
        assert not fragments.close(path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_that_is_full_leaves_the_fragments(tmp_path, refuse, caplog):
    partial = stopped(tmp_path)
    before = partial.read_bytes()
    refuse(os, "fsync", errno.ENOSPC)
    assert not fragments.close(partial)
    assert partial.read_bytes() == before
    assert list(tmp_path.iterdir()) == [partial]
    assert "stays in fragments" in caplog.text
