"""What Resume gives of a saved video goes on as the video did, also from its middle or alone."""

import logging
import shutil
from pathlib import Path

import folder_paths
import pytest
import tiny
import tiny_vae
import torch
from alone import EachAlone
from conftest import ROOT
from runs import sample

from relax_memory.host.keeping.autosave import archive_folder
from relax_memory.saved.archive import saved_rollouts

POSITIVE, NEGATIVE, OTHER = (tiny.conditioning(seed) for seed in (1, 2, 3))
CHUNKS = 6
LENGTH = 4 * (3 * CHUNKS - 1) + 1
GUIDED = {"cfg": 3.0, "negative": NEGATIVE}
TIERS = {
    "gpu": dict,
    "guided, gpu": lambda: GUIDED,
    "cpu": lambda: {"model": small_memory(reservoir_device="cpu")},
    "guided, cpu": lambda: GUIDED | {"model": small_memory(reservoir_device="cpu")},
}


ROUNDING = 5e-5  # of values up to 16: 1.5e-5 measured, see docs/measurements.md


def small_memory(**settings):
    """Frames leave it before the video ends."""
    return tiny.remembering(reservoir_frames=12, **settings)


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))


def made(autosave=False, **settings):
    asked = {"model": small_memory(), "positive": POSITIVE, "length": LENGTH, "seed": 7}
    return sample(**(asked | {"autosave": autosave} | settings))


def resumed(rollout=None, **inputs):
    name = rollout or saved_rollouts(archive_folder())[0].name
    return tiny.node("RelaxForcingResume", rollout=name, **inputs)[0]


def test_one_of_a_batch_alone_differs_by_rounding_and_has_its_noise():
    batch = made(batch_size=8)
    made(autosave=True, batch_size=8, length=33)
    take = resumed(sample=3)
    assert take["samples"].shape[:3] == (1, 16, 9)
    torch.testing.assert_close(made(prefix=take), batch[2:3], rtol=0, atol=ROUNDING)
    assert torch.equal(made(prefix=resumed(), batch_size=8), batch)
    pair = made(prefix=take, batch_size=2)  # the next number begins as it does
    assert torch.equal(pair[1:, :, :9], batch[2:3, :, :9])
    own_noise = made(prefix={"samples": take["samples"]})
    for other in (pair[1:], own_noise):
        assert (other - batch[2:3]).abs().max() > 1


@pytest.mark.parametrize("case", TIERS)
def test_one_of_a_batch_goes_on_alone_bit_for_bit_where_kernels_compute_each_alone(case):
    settings = TIERS[case]()
    with EachAlone():
        batch = made(batch_size=8, **settings)
        made(autosave=True, batch_size=8, **settings | {"length": 33})
        for number in (3, 8):
            alone = made(prefix=resumed(sample=number), **settings)
            assert torch.equal(alone, batch[number - 1 : number])


def test_a_take_from_every_chunk_is_the_video_again_and_others_follow_other_words():
    whole = made(autosave=True)
    name = saved_rollouts(archive_folder())[0].name
    for chunks in range(1, CHUNKS):
        take = resumed(name, until_seconds=(4 * (3 * chunks - 1) + 1) / 16)
        frames = 3 * chunks
        assert torch.equal(take["samples"], whole[:, :, :frames])
        assert torch.equal(made(prefix=take), whole)
        other = made(prefix=take, positive=OTHER)
        assert torch.equal(other[:, :, :frames], whole[:, :, :frames])
        assert not torch.equal(other[:, :, frames:], whole[:, :, frames:])
    assert torch.equal(resumed(name)["samples"], whole)


def test_a_take_of_a_take_keeps_the_noise_of_its_sample_and_names_its_parent():
    made(autosave=True, batch_size=4, length=33)
    parent = saved_rollouts(archive_folder())[0]
    fourth = resumed(sample=4)
    whole = made(prefix=fourth)
    made(autosave=True, prefix=fourth, length=57)
    (take,) = (r for r in saved_rollouts(archive_folder()) if r.name != parent.name)
    assert take.description.settings["taken from"] == parent.name
    assert parent.delete()
    again = resumed(take.name, until_seconds=2.8)
    assert again["samples"].shape[2] == 12
    assert torch.equal(made(prefix=again), whole)


def test_a_parent_deleted_while_its_take_is_made_changes_nothing():
    whole = made(autosave=True)
    (parent,) = saved_rollouts(archive_folder())
    take = resumed(until_seconds=2.8)
    model = small_memory().clone()

    def call(network, arguments):
        parent.delete()
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(call)
    assert torch.equal(made(autosave=True, model=model, prefix=take), whole)
    (left,) = saved_rollouts(archive_folder())
    assert left.name != parent.name
    assert left.taken_from == parent.name
    assert left.finished


def film():
    """Three shots, of which the third returns to the scene of the first."""
    conditioning = None
    for chunk, seed, scene in ((0, 1, "a"), (3, 2, "b"), (5, 3, "a")):
        conditioning = tiny.node(
            "RelaxForcingShot",
            conditioning=tiny.conditioning(seed),
            start_seconds=max(0, 12 * chunk - 3) / 16,
            transition="cut",
            blend_seconds=1.0,
            scene=scene,
            before=conditioning,
        )[0]
    return conditioning


def test_a_take_of_a_film_goes_on_as_the_film_with_its_cuts_and_its_return():
    whole = made(autosave=True, positive=film())
    name = saved_rollouts(archive_folder())[0].name
    for chunks in range(1, CHUNKS):
        take = resumed(name, until_seconds=(12 * chunks - 3) / 16)
        assert take["samples"].shape[2] == 3 * chunks
        assert torch.equal(made(prefix=take, positive=film()), whole)


@pytest.mark.parametrize("transition", ["keep", "recache", "blend"])
def test_a_take_is_remembered_under_the_words_of_its_seconds(transition):
    def shots(last):
        conditioning = None
        for start, seed in ((0, 1), (1.31, 2), (2.81, last)):
            conditioning = tiny.node(
                "RelaxForcingShot",
                conditioning=tiny.conditioning(seed),
                start_seconds=start,
                transition=transition if start else "keep",
                blend_seconds=1.5,
                before=conditioning,
            )[0]
        return conditioning

    whole = made(autosave=True, positive=shots(3))
    name = saved_rollouts(archive_folder())[0].name
    for chunks in range(1, CHUNKS):
        take = resumed(name, until_seconds=(12 * chunks - 3) / 16)
        assert torch.equal(made(prefix=take, positive=shots(3)), whole), chunks
    other = made(prefix=resumed(name, until_seconds=33 / 16), positive=shots(4))
    assert torch.equal(other, made(positive=shots(4)))


def test_a_rollout_of_version_0_1_is_taken_from():
    (old,) = (ROOT / "tests" / "host" / "data" / "rollout_0.1").iterdir()
    folder = archive_folder() / old.name
    shutil.copytree(old, folder)
    whole = resumed(old.name)["samples"]
    take = resumed(old.name, until_seconds=1.3)
    frames = take["samples"].shape[2]
    assert 0 < frames < whole.shape[2]
    assert torch.equal(take["samples"], whole[:, :, :frames])
    size = dict(zip(("height", "width"), (8 * side for side in whole.shape[-2:]), strict=True))
    again = made(autosave=True, prefix=take, batch_size=len(whole), **size)
    assert torch.equal(again[:, :, :frames], take["samples"])
    assert saved_rollouts(archive_folder())[0].taken_from == old.name


def test_a_take_in_seconds_of_its_own_rate_reads_each_chunk_once(monkeypatch):
    inputs = {"vae": tiny_vae.vae(), "fps": 8.0, "filename_prefix": "x", "width": 32, "height": 32}
    inputs |= {"model": small_memory(), "positive": POSITIVE, "length": 33, "seed": 7, "steps": 2}
    inputs |= {"cfg": 1.0, "frames_per_chunk": 3, "batch_size": 1, "autosave": True}
    tiny.node("RelaxForcingStream", **inputs)
    (saved,) = saved_rollouts(archive_folder())
    assert "  4.1 s  " in saved.label
    read, reads = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path.name) or read(path))
    assert resumed(until_seconds=2.6)["samples"].shape[2] == 6
    assert sorted(name for name in reads if "-" in name) == [path.name for path in saved.files]


def test_what_no_longer_is_as_in_the_saved_video_is_said_and_only_that(caplog):
    caplog.set_level(logging.INFO)
    made(autosave=True, length=33)
    (saved,) = saved_rollouts(archive_folder())
    take = resumed()
    made(prefix=take)
    assert "a take of its own" not in caplog.text
    made(prefix=take, seed=8, frames_per_chunk=1)
    for what in ("seed is 8, but 7", "frames_per_chunk is 1, but 3"):
        assert f"{what} made {saved.name}: a take of its own from here on." in caplog.text


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"sample": 3}, r'sample is 3, but ".*" has 2: use 1 to 2, or 0 for all\.'),
        ({"until_seconds": 3}, r"until_seconds is 3, but 2\.06 s of this video are saved: use 0 f"),
        ({"until_seconds": -1}, r"until_seconds is -1, but 2\.06 s of this video are saved"),
        ({"until_seconds": float("nan")}, r"until_seconds is nan, but 2\.06 s of this video"),
        ({"sample": -1}, r'sample is -1, but ".*" has 2: use 1 to 2, or 0 for all\.'),
    ],
)
def test_what_is_not_there_is_refused(inputs, said):
    made(autosave=True, batch_size=2, length=33)
    with pytest.raises(ValueError, match=said):
        resumed(**inputs)
