"""What is saved is found again, and what is damaged, foreign or too new is never used."""

import dataclasses
import errno
import json
import logging
import os
import re
import struct
import subprocess
import sys
import time
from contextlib import contextmanager

import filelock
import pytest
import torch
from safetensors.torch import save

from relax_memory.saved import atomic, inputs
from relax_memory.saved.archive import (
    clean_up,
    ended_empty,
    find_rollout,
    open_rollout,
    saved_rollouts,
    with_takes,
)
from relax_memory.saved.chunk import SavedChunk, chunk_keys
from relax_memory.saved.inputs import (
    INPUTS,
    MOST_PACKED_BYTES,
    name_of,
    read_inputs,
    unpacked,
    write_inputs,
)
from relax_memory.saved.rollout import (
    DESCRIPTION,
    FORGOTTEN,
    KEPT,
    TAKEN_FROM,
    UNDER,
    Description,
    SavedRollout,
)
from relax_memory.scenes import WHOLE
from relax_memory.trace import ChunkTrace

KEYS = chunk_keys("all", "abcdef")
NAN = float("nan")


def chunk(index, keys=KEYS, dtype=torch.float32):
    """Chunk `index` of the rollout with these keys; 2 samples, 3 frames."""
    generator = torch.Generator().manual_seed(index)
    first = 3 * index
    return SavedChunk(
        key=keys[index],
        follows=keys[index - 1] if index else "",
        latents=torch.randn(2, 4, 3, 2, 2, generator=generator).to(dtype),
        trace=ChunkTrace(
            index=index,
            frames=(first, first + 1, first + 2),
            given=index == 0,
            sink=(0, 1) if index else (),
            candidates=(),
            tail=(first - 1,) if index else (),
            history=((), ()) if index else (),
            scores=((), ()) if index else (),
            seconds=0.5,
        ),
        rows=("positive 0", "positive 1") if index else (),
    )


def description(**changes):
    settings = {"planned_chunks": 6, "width": 16, "height": 16, "settings": {"seed": 1}}
    return Description(**settings | {"made_from": {"seed": "a"}, "versions": {}} | changes)


def rollout(folder, chunks=3, keys=KEYS, **changes):
    """A saved rollout of so many chunks."""
    with open_rollout(folder, keys) as saved:
        saved.describe(description(**changes))
        for index in range(len(saved.files), chunks):
            chunk(index, keys).write(saved.folder)
    return SavedRollout(saved.folder)


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(a, b):
    a, b = dataclasses.asdict(a), dataclasses.asdict(b)
    return torch.equal(a.pop("latents"), b.pop("latents")) and repr(a) == repr(b)


# --- chunk files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_chunk_comes_back_as_it_was(tmp_path, dtype):
    written = chunk(2, dtype=dtype)
    trace = dataclasses.replace(written.trace, candidates=(2, 3), scores=((0.1, NAN), ()))
    written = dataclasses.replace(written, trace=trace)
    written.write(tmp_path)
    read = SavedChunk.read(*tmp_path.iterdir())
    assert same(read, written)
    assert read.latents.dtype == dtype


def test_a_chunk_comes_back_with_its_scene(tmp_path):
    written = chunk(2)
    written = dataclasses.replace(
        written, trace=dataclasses.replace(written.trace, scene=1, scene_frame=3)
    )
    written.write(tmp_path)
    assert same(SavedChunk.read(*tmp_path.iterdir()), written)


def test_a_chunk_of_before_there_were_scenes_is_of_the_first(tmp_path):
    trace = dataclasses.asdict(chunk(2).trace)
    assert trace.pop("scene") == 0
    assert trace.pop("scene_frame") is None
    rows = ("positive 0", "positive 1")
    data = save({"latents": chunk(2).latents}, record(key=KEYS[2], trace=trace, rows=rows))
    path = tmp_path / f"000002-{atomic.checksum(data)}.safetensors"
    path.write_bytes(data)
    assert SavedChunk.read(path).trace == chunk(2).trace


def test_a_change_spoils_the_first_chunk_it_affects_and_all_that_follow():
    for changed in range(6):
        parts = ["x" if i == changed else part for i, part in enumerate("abcdef")]
        equal = [a == b for a, b in zip(KEYS, chunk_keys("all", parts), strict=True)]
        assert equal == [i < changed for i in range(6)]
    assert not set(KEYS) & set(chunk_keys("other", "abcdef"))
    assert chunk_keys("all", "abc") == KEYS[:3]


def test_every_flipped_bit_is_noticed(tmp_path):
    chunk(0).write(tmp_path)
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(
            data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :]
        )
        with pytest.raises(ValueError, match="is damaged"):
            SavedChunk.read(path)


def test_every_truncation_is_noticed(tmp_path):
    chunk(0).write(tmp_path)
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="is damaged"):
            SavedChunk.read(path)


def record(**changes):
    """The metadata of a chunk file."""
    trace = dataclasses.asdict(chunk(0).trace)
    record = {"format": 1, "key": "k", "follows": "", "rows": [], "trace": trace} | changes
    return {"relax_forcing": json.dumps(record)}


def told(**changes):
    """What a chunk file says of a trace."""
    return dataclasses.asdict(chunk(0).trace) | changes


def infinite():
    latents = torch.zeros(1, 4, 3, 2, 2)
    latents[0, 3, 2, 1, 1] = float("inf")
    return latents


LATENTS = {"latents": torch.zeros(1, 4, 3, 2, 2)}
FOREIGN = {
    "empty": b"",
    "text": b"no safetensors at all",
    "pickle": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
    "endless header": struct.pack("<Q", 2**63) + b"{}",
    "header of a list": struct.pack("<Q", 2) + b"[]",
    "other metadata": save(LATENTS, {"format": "pt"}),
    "no metadata": save(LATENTS),
    "deep record": save(LATENTS, {"relax_forcing": "[" * 10**5}),
    "no record": save(LATENTS, {"relax_forcing": "[]"}),
    "other tensor": save({"video": LATENTS["latents"]}, record()),
    "other shape": save({"latents": torch.zeros(4, 4)}, record()),
    "other frames": save({"latents": torch.zeros(1, 4, 2, 2, 2)}, record()),
    "NaN": save({"latents": torch.full((1, 4, 3, 2, 2), NAN)}, record()),
    "one infinite value": save({"latents": infinite()}, record()),
    "future format": save(LATENTS, record(format=2)),
    "no key": save(LATENTS, {"relax_forcing": json.dumps({"format": 1})}),
    "strange trace": save(LATENTS, record(trace={"index": 0, "colour": 1})),
    "eight bits": save({"latents": LATENTS["latents"].to(torch.float8_e4m3fn)}, record()),
    "whole numbers": save({"latents": LATENTS["latents"].long()}, record()),
    "half frames": save(LATENTS, record(trace=told(frames=[0.5, 1.5, 2.5]))),
    "words of a number": save(LATENTS, record(trace=told(words=7))),
    "rows of numbers": save(LATENTS, record(rows=[1, 2])),
    "impossible trace": save(LATENTS, record(trace=told(seconds=-1))),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_files_are_refused_in_a_sentence(tmp_path, data):
    """Even where their checksum is right."""
    path = tmp_path / f"000000-{atomic.checksum(data)}.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^.+ holds no chunk that can be used \(.+\)\.$"):
        SavedChunk.read(path)


def test_a_future_format_says_so(tmp_path):
    data = FOREIGN["future format"]
    path = tmp_path / f"000000-{atomic.checksum(data)}.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="format 2, but this version of the pack reads 1"):
        SavedChunk.read(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, step, error):
    before = content(rollout(tmp_path).folder)

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            chunk(3).write(SavedRollout(next(tmp_path.iterdir())).folder)
    assert content(tmp_path) == before


# --- rollouts -------------------------------------------------------------------------------------


def test_a_rollout_is_continued_in_place(tmp_path):
    first = rollout(tmp_path, chunks=2)
    before = content(tmp_path)
    second = rollout(tmp_path, chunks=5)
    assert second.folder == first.folder
    assert before.items() <= content(tmp_path).items()
    assert [c.key for c in second.chunks()] == KEYS[:5]
    whole = torch.cat([chunk(i).latents for i in range(5)], dim=2)
    assert torch.equal(second.latents(), whole)


def test_a_rollout_knows_where_it_is_cut(tmp_path):
    saved = SavedRollout(tmp_path / "film")
    saved.folder.mkdir()
    for index, scene in enumerate((0, 0, 1, 0)):
        made = chunk(index)
        trace = dataclasses.replace(made.trace, scene=scene, words="ab"[index == 1])
        dataclasses.replace(made, trace=trace).write(saved.folder)
    latents, pieces, shots = saved.film()
    assert latents.shape[2] == 12
    assert pieces == ((0, 0), (6, 1), (9, 0))
    assert shots == [(0, "a"), (3, "b"), (6, "a"), (9, "a")]
    damage(saved.files[3])
    assert saved.film()[1] == ((0, 0), (6, 1))
    assert rollout(tmp_path / "other").film()[1:] == (WHOLE, [])


def test_a_shorter_video_uses_the_beginning(tmp_path):
    saved = rollout(tmp_path, chunks=5)
    before = content(tmp_path)
    with open_rollout(tmp_path, KEYS[:2]) as again:
        assert again.folder == saved.folder
        assert again.matching(KEYS[:2]) == 2
    assert content(tmp_path) == before


@pytest.mark.parametrize("changed", range(5))
def test_a_changed_part_begins_anew_with_what_comes_before(tmp_path, changed):
    old = rollout(tmp_path, chunks=5)
    before = content(old.folder)
    keys = chunk_keys("all", "abcdef"[:changed] + "XXXXXX")
    with open_rollout(tmp_path, keys) as new:
        assert new.folder != old.folder
        assert len(new.files) == new.matching(keys) == changed
        assert all(map(same, new.chunks(), old.chunks()))
    assert content(old.folder) == before
    assert new.folder.exists() == (changed > 0)  # one without a chunk is nothing


def damage(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("spoil", [damage, os.unlink], ids=["damaged", "lost"])
@pytest.mark.parametrize("index", range(4))
def test_chunks_before_a_bad_one_are_used_and_none_after(tmp_path, caplog, index, spoil):
    old = rollout(tmp_path, chunks=4)
    spoil(old.files[index])
    before = content(old.folder)
    with open_rollout(tmp_path, KEYS) as new:
        assert len(new.files) == new.matching(KEYS) == index
        assert (new.folder == old.folder) == (index == 3 and spoil is os.unlink)
    assert content(old.folder) == before
    assert ("left out: " in caplog.text) == (index < 3 or spoil is damage)


def test_a_chunk_of_another_rollout_is_left_out(tmp_path, caplog):
    other = rollout(tmp_path, keys=chunk_keys("other", "abcdef"))
    saved = rollout(tmp_path, chunks=2)
    os.link(other.files[2], saved.folder / other.files[2].name)
    assert saved.matching(KEYS) == 2
    assert saved.latents().shape[2] == 6
    assert "does not follow" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"latents": torch.zeros(2, 4, 3, 2, 4)},
        {"latents": torch.zeros(1, 4, 3, 2, 2)},
        {"latents": torch.zeros(2, 4, 3, 2, 2).half()},
        {"trace": dataclasses.replace(chunk(2).trace, frames=(7, 8, 9))},
    ],
)
def test_a_chunk_of_another_size_or_place_is_left_out(tmp_path, change):
    saved = rollout(tmp_path, chunks=2)
    dataclasses.replace(chunk(2), **change).write(saved.folder)
    assert saved.matching(KEYS) == 2
    assert saved.latents().shape[2] == 6


@pytest.mark.skipif(os.name == "nt", reason="links there need a right that few have")
def test_nothing_is_written_through_what_stands_for_the_unfinished_file(tmp_path):
    saved, other = rollout(tmp_path / "saved", chunks=1), tmp_path / "other"
    other.write_text("mine")
    for index, make in enumerate((os.symlink, os.link, lambda _, path: os.mkfifo(path)), 1):
        make(other, saved.folder / "part")  # a pipe that nobody reads would wait for ever
        chunk(index).write(saved.folder)
    assert other.read_text() == "mine"
    assert saved.matching(KEYS) == 4


def test_where_nothing_can_be_used_it_says_why(tmp_path):
    saved = rollout(tmp_path)
    damage(saved.files[0])
    with pytest.raises(ValueError, match="is damaged"):
        saved.latents()


def test_a_rollout_without_a_chunk_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_rollout(tmp_path, KEYS) as saved:
        saved.describe(description())
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_ended_without_a_chunk_is_found_by_what_it_was_made_from(tmp_path):
    made_from = description().made_from
    with open_rollout(tmp_path, KEYS, lambda: True) as ended:
        ended.describe(description())
        assert ended_empty(tmp_path, made_from) == []  # in use
    rollout(tmp_path, 1)
    (found,) = ended_empty(tmp_path, made_from)
    assert found.folder == ended.folder
    assert ended_empty(tmp_path, {"seed": "b"}) == []


def test_what_another_writer_holds_is_copied(tmp_path):
    with open_rollout(tmp_path, KEYS) as one:
        chunk(0).write(one.folder)
        with open_rollout(tmp_path, KEYS) as two:
            assert one.folder != two.folder
            assert len(two.files) == 1
            for saved in (one, two):
                chunk(1).write(saved.folder)
        assert one.matching(KEYS) == two.matching(KEYS) == 2


@pytest.mark.skipif(os.name == "nt", reason="there is no flock on Windows")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks_saves_and_goes_on(tmp_path, number, monkeypatch):
    def not_offered(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", not_offered)
    for index in range(2):
        with open_rollout(tmp_path, KEYS) as rollout:
            assert len(rollout.files) == index
            chunk(index).write(rollout.folder)
    assert rollout.delete()


def test_a_killed_writer_holds_nothing(tmp_path):
    saved = rollout(tmp_path)
    program = (
        "import sys, filelock\nwith filelock.FileLock(sys.argv[1]): print(flush=True); input()"
    )
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*command, saved.folder / "lock"], **pipes) as process:
        process.stdout.readline()
        with pytest.raises(filelock.Timeout), saved.hold():
            pass
        process.kill()
    with open_rollout(tmp_path, KEYS) as again:
        assert again.folder == saved.folder


# --- inputs ---------------------------------------------------------------------------------------


def embedding(words=9, width=64):
    """As a text encoder gives it: nothing after the last word, with either sign."""
    made = torch.randn(1, 512, width)
    made[:, words:] *= 0.0
    return made


def bits(tensors):
    return [save({"x": tensor}) for tensor in tensors]


def kept(folder):
    """What is kept of inputs, each as its tensors."""
    packed = read_inputs(folder)
    return [bits(unpacked(name, packed)) for name in packed]


def test_inputs_come_back_as_they_were_without_taking_room_for_padding(tmp_path):
    text = embedding()
    given = [[text, torch.ones(1, 4)], [torch.randn(1, 4, 3, 2, 2)], [text[:, :8], text[:, :8]]]
    write_inputs(tmp_path, given)
    assert (tmp_path / INPUTS).stat().st_size < text.nbytes / 5
    assert sorted(kept(tmp_path)) == sorted(map(bits, given))
    assert set(map(name_of, given)) == set(read_inputs(tmp_path))


def test_a_film_of_twelve_prompts_of_full_width_is_kept_each_once(tmp_path):
    text = embedding(words=60, width=4096)
    prompts = [[text * number] for number in range(1, 13)]
    write_inputs(tmp_path, [*prompts, prompts[0]])
    assert set(read_inputs(tmp_path)) == set(map(name_of, prompts))
    assert (tmp_path / INPUTS).stat().st_size < MOST_PACKED_BYTES / 5


def test_more_inputs_take_the_room_of_those_before(tmp_path, monkeypatch):
    one, two, three = ([torch.randn(1, 9, 64)] for _ in range(3))
    write_inputs(tmp_path, [one])
    write_inputs(tmp_path, [two])
    assert set(read_inputs(tmp_path)) == set(map(name_of, [one, two]))
    monkeypatch.setattr(inputs, "MOST_PACKED_BYTES", 2 * one[0].nbytes)
    write_inputs(tmp_path, [three, two])
    assert set(read_inputs(tmp_path)) == set(map(name_of, [three, two]))


def test_large_inputs_are_not_kept(tmp_path):
    write_inputs(tmp_path, [[torch.zeros(1, 16, 300, 64, 64)]])
    assert not list(tmp_path.iterdir())


def test_damaged_inputs_are_none(tmp_path):
    write_inputs(tmp_path, [[embedding()]])
    path = tmp_path / INPUTS
    data, whole = path.read_bytes(), kept(tmp_path)
    for position in range(len(data) - 40, len(data), 3):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        assert kept(tmp_path) in ([[]], whole)  # one bit may be packed otherwise to the same
        path.write_bytes(data[:position])
        assert read_inputs(tmp_path) == {}


def test_inputs_count_and_go_with_their_rollout(tmp_path):
    saved = rollout(tmp_path)
    before = saved.bytes
    write_inputs(saved.folder, [[torch.zeros(1, 4, 5, 2, 2)]])
    assert saved.bytes == before + (saved.folder / INPUTS).stat().st_size
    assert saved.delete()
    assert not saved.folder.exists()


# --- descriptions and lists -----------------------------------------------------------------------


def test_a_description_is_sound_or_none(tmp_path):
    saved = rollout(tmp_path)
    path = saved.folder / DESCRIPTION
    data = path.read_bytes()
    for position in range(len(data)):
        flipped = bytes([data[position] ^ 1 << position % 8])
        path.write_bytes(data[:position] + flipped + data[position + 1 :])
        assert saved.description in (None, description())
        assert saved.label.startswith(saved.name)
        path.write_bytes(data[:position])
        assert saved.description in (None, description())


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 10**5, '{"rollout": {"format": 2}}'])
def test_a_foreign_description_is_none(tmp_path, text):
    saved = rollout(tmp_path)
    (saved.folder / DESCRIPTION).write_text(text)
    assert saved.description is None
    assert saved.label == f"{saved.name}  3 chunks"
    assert saved.matching(KEYS) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("planned_chunks", "6"),
        ("planned_chunks", None),
        ("width", 1.5),
        ("settings", []),
        ("made_from", "a"),
        ("versions", None),
    ],
)
def test_a_description_of_other_types_is_none_even_where_its_checksum_is_right(
    tmp_path, name, value
):
    saved = rollout(tmp_path)
    content = json.loads((saved.folder / DESCRIPTION).read_bytes())
    content["rollout"]["description"][name] = value
    content["checksum"] = atomic.checksum(json.dumps(content["rollout"], sort_keys=True).encode())
    (saved.folder / DESCRIPTION).write_text(json.dumps(content))
    assert saved.description is None
    assert saved.label == f"{saved.name}  3 chunks"


def test_the_list_names_the_newest_first_and_how_far_each_is(tmp_path):
    for name, chunks in {"2026-01-02 10.00.00": 2, "2026-01-02 09.00.00": 6}.items():
        rollout(tmp_path, chunks, keys=chunk_keys(name, "abcdef")).folder.rename(tmp_path / name)
    (tmp_path / "2026-01-03 09.00.00").mkdir()
    (tmp_path / "notes.txt").touch()
    labels = [saved.label for saved in saved_rollouts(tmp_path)]
    assert labels == [
        "2026-01-02 10.00.00  16x16  2 of 6 chunks",
        "2026-01-02 09.00.00  16x16  all 6 chunks",
    ]


@pytest.mark.parametrize(
    ("chunks", "settings", "middle"),
    [
        (2, {"frames_per_chunk": 3}, "1.3 of 4.3 s"),
        (6, {"frames_per_chunk": 3}, "4.3 s"),
        (1, {"frames_per_chunk": 3, "prefix_frames": 1}, "0.1 of 3.8 s"),
        (3, {"frames_per_chunk": 40, "prefix_frames": 80}, "30 of 60 s"),
        (2, {"frames_per_chunk": 3, "first words": "a red fox"}, "1.3 of 4.3 s  a red fox"),
        (2, {"first words": "a red fox"}, "a red fox"),
        (2, {"frames_per_chunk": "3", "first words": 7}, ""),
        (2, {"frames_per_chunk": 0, "first words": "a\nb"}, ""),
        (2, {"frames_per_chunk": 10**400}, ""),
    ],
)
def test_a_label_says_what_a_person_knows_of_the_video(tmp_path, chunks, settings, middle):
    saved = rollout(tmp_path, chunks, KEYS, settings=settings)
    far = "all 6" if chunks == 6 else f"{chunks} of 6"
    known = [middle] if middle else []
    assert saved.label == "  ".join([saved.name, *known, "16x16", f"{far} chunks"])


def test_labels_of_version_0_1_name_their_rollouts(tmp_path):
    saved = rollout(tmp_path, 2, settings={"frames_per_chunk": 3, "first words": "a fox"})
    for rest in ("16x16  2 of 6 chunks", "16x16  all 6 chunks", "2 chunks"):
        assert find_rollout(tmp_path, f"{saved.name}  {rest}").folder == saved.folder


def test_a_label_names_its_rollout_after_it_has_grown_or_was_renamed(tmp_path):
    saved = rollout(tmp_path, 2)
    label = saved.label
    rollout(tmp_path, 4)
    assert find_rollout(tmp_path, label).folder == saved.folder
    assert find_rollout(tmp_path, saved.name).folder == saved.folder
    renamed = saved.folder.rename(tmp_path / "my  cat")
    assert find_rollout(tmp_path, SavedRollout(renamed).label).folder == renamed


@pytest.mark.parametrize(
    "label", ["", ".", "..", "../out", "out", "/", "link", "a\0b", "C:\\", " "]
)
def test_a_label_is_never_a_path(tmp_path, label):
    outside = rollout(tmp_path / "out").folder
    inside = rollout(tmp_path / "in").folder
    (tmp_path / "in" / "link").symlink_to(outside)
    for name in (label, str(outside), f"../out/{outside.name}", f"{inside.name}/../{inside.name}"):
        with pytest.raises(ValueError, match="choose one of the list"):
            find_rollout(tmp_path / "in", name)


def test_where_nothing_is_saved_it_says_so(tmp_path):
    assert saved_rollouts(tmp_path / "missing") == []
    with pytest.raises(ValueError, match="No rollout is saved in"):
        find_rollout(tmp_path / "missing", "any")


# --- cleaning up ----------------------------------------------------------------------------------


def aged(folder, name, age, **changes):
    """A saved rollout last changed `age` seconds ago."""
    saved = rollout(folder, keys=chunk_keys(name, "abcdef"), **changes)
    os.utime(saved.folder, (time.time() - age,) * 2)
    return saved


def here(rollouts):
    return "".join(r.name for r in rollouts if r.folder.exists())


def named(folder, names, planned_chunks=3):
    """Rollouts of these names, the newest first."""
    for age, name in enumerate(names):
        aged(folder, name, 100 * age, planned_chunks=planned_chunks).folder.rename(folder / name)
    return [SavedRollout(folder / name) for name in names]


def test_finished_rollouts_stay_until_newer_ones_take_the_room(tmp_path):
    finished = named(tmp_path, "dcba")
    size = finished[0].bytes
    for room, kept in [(4 * size, "dcba"), (4 * size - 1, "dcb"), (2 * size, "dc"), (0, "d")]:
        clean_up(tmp_path, most_bytes=room)
        assert here(finished) == kept


def test_unfinished_rollouts_stay_however_old(tmp_path):
    saved = named(tmp_path, "ba", planned_chunks=9)
    os.utime(saved[1].folder, (0, 0))
    clean_up(tmp_path, most_bytes=0)
    assert here(saved) == "ba"


def test_what_is_kept_stays_and_takes_no_room_of_others(tmp_path):
    saved = named(tmp_path, "dcba")
    for rollout in (saved[0], saved[3]):
        rollout.mark_as(KEPT)
    clean_up(tmp_path, most_bytes=2 * saved[0].bytes)
    assert here(saved) == "dcba"
    clean_up(tmp_path, most_bytes=0)
    assert here(saved) == "dca"  # c is the newest that is not kept
    saved[0].mark_as("")
    clean_up(tmp_path, most_bytes=0)
    assert here(saved) == "da"


def test_what_is_forgotten_goes_first_finished_or_not_and_only_for_room(tmp_path):
    (begun,) = named(tmp_path, "e", planned_chunks=9)
    saved = [begun, *named(tmp_path, "dcba")]
    for rollout in saved[:2]:
        rollout.mark_as(FORGOTTEN)
    size = begun.bytes
    for room, kept in [(5 * size, "edcba"), (4 * size, "dcba"), (3 * size, "cba"), (0, "c")]:
        clean_up(tmp_path, most_bytes=room)
        assert here(saved) == kept


def test_a_mark_replaces_the_other_and_makes_a_rollout_no_younger(tmp_path):
    saved = aged(tmp_path, "a", 500)
    changed = saved.changed_seconds
    for mark in (KEPT, FORGOTTEN, FORGOTTEN, KEPT, ""):
        with saved.hold():
            saved.mark_as(mark)
        assert (saved.mark, saved.changed_seconds) == (mark, changed)
    saved.mark_as(FORGOTTEN)
    assert saved.delete()
    assert not saved.folder.exists()


def test_what_is_in_use_unreadable_or_foreign_stays(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    _, held, strange, mixed = (
        aged(tmp_path, name, age, planned_chunks=1)
        for age, name in zip((-99, 9, 9, 9), "nabc", strict=True)
    )
    (strange.folder / DESCRIPTION).write_text("{}")
    foreign = [tmp_path / "folder" / "file", mixed.folder / "my notes", tmp_path / "file"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with held.hold():
        held.mark_as(FORGOTTEN)
        clean_up(tmp_path, most_bytes=0)
    assert re.findall("Deleted .*", caplog.text) == [f"Deleted the saved rollout {mixed.folder}."]
    assert [len(saved.files) for saved in (held, strange, mixed)] == [3, 3, 0]
    assert all(path.exists() for path in foreign)


# --- takes under what they are taken from ---------------------------------------------------------


def test_a_take_stands_under_its_parent_and_each_rollout_once(tmp_path):
    parents = {"a": "", "b": "a", "c": "", "d": "gone", "e": "b", "f": "a", "g": "h", "h": "g"}
    for name, parent in parents.items():
        settings = {TAKEN_FROM: parent} if parent else {}
        saved = rollout(tmp_path, keys=chunk_keys(name, "abcdef"), settings=settings)
        saved.folder.rename(tmp_path / name)
    told = with_takes(saved_rollouts(tmp_path))
    assert [(depth, r.name) for depth, r in told] == [
        *((0, "g"), (1, "h"), (0, "a"), (1, "f"), (1, "b"), (2, "e"), (0, "d"), (0, "c"))
    ]
    label = UNDER * 2 + SavedRollout(tmp_path / "e").label
    assert find_rollout(tmp_path, label).name == "e"


# --- many rollouts --------------------------------------------------------------------------------

MANY, CHUNKS_EACH = 30, 5
_looks = []  # what is opened or listed while it counts; a hook cannot be taken back
_counting = []
sys.addaudithook(
    lambda event, args: _counting and event in ("open", "os.listdir") and _looks.append(args[0])
)


@pytest.fixture
def many(tmp_path):
    """A folder with many rollouts, none of which is made from `KEYS`."""
    for number in range(MANY):
        rollout(tmp_path, CHUNKS_EACH, chunk_keys(f"{number}", "abcdef"))
    return tmp_path


@contextmanager
def looks():
    """What was opened or listed in the block."""
    _looks.clear()
    _counting.append(True)
    try:
        yield _looks
    finally:
        _counting.clear()


def test_a_new_video_costs_two_looks_at_each_saved_rollout(many):
    with looks() as seen, open_rollout(many, KEYS):
        pass
    assert 2 * MANY <= len(seen) < 2 * MANY + 20  # its chunks' names, what its first chunk says
    reading = [path for path in map(str, seen) if path.endswith(".safetensors")]
    assert len(reading) == MANY


def test_what_ended_empty_is_looked_for_by_one_look_at_each(many):
    with looks() as seen:
        assert ended_empty(many, description().made_from) == []
    assert len(seen) <= MANY + 1


def test_the_list_costs_three_looks_at_each_rollout(many):
    with looks() as seen:
        assert len([saved.label for saved in saved_rollouts(many)]) == MANY
    assert len(seen) <= 3 * MANY + 1  # twice its chunks' names, and its description


def test_one_rollout_is_found_without_a_look_at_others(many):
    (*_, oldest) = saved_rollouts(many)
    with looks() as seen:
        assert find_rollout(many, oldest.name).folder == oldest.folder
    assert len(seen) <= 2


@pytest.mark.parametrize("spoil", [b"", b"no chunk", struct.pack("<Q", 2**60) + b"{}"])
def test_a_first_chunk_that_says_nothing_of_itself_is_looked_at_closely(many, caplog, spoil):
    saved = rollout(many)
    saved.files[0].write_bytes(spoil)
    with open_rollout(many, KEYS) as new:
        assert new.folder != saved.folder
    assert "left out: " in caplog.text
