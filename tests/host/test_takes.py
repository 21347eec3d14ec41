"""What Resume gives of a saved video goes on as the video did, also from its middle or alone."""

import folder_paths
import pytest
import tiny
import torch
from runs import sample

from relax_memory.host.keeping.autosave import archive_folder
from relax_memory.saved.archive import saved_rollouts

POSITIVE, NEGATIVE, OTHER = (tiny.conditioning(seed) for seed in (1, 2, 3))
CHUNKS = 8
LENGTH = 4 * (3 * CHUNKS - 1) + 1
GUIDED = {"cfg": 3.0, "negative": NEGATIVE}
TIERS = {
    "gpu": dict,
    "guided, gpu": lambda: GUIDED,
    "cpu": lambda: {"model": small_memory(reservoir_device="cpu")},
    "guided, cpu": lambda: GUIDED | {"model": small_memory(reservoir_device="cpu")},
}


ROUNDING = 1e-4  # of values up to 16: a product of 1 row and of 8 sums in another order


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


@pytest.mark.parametrize("case", TIERS)
def test_one_of_a_batch_goes_on_alone_as_it_would_have_in_the_batch(case):
    settings = TIERS[case]()
    batch = made(batch_size=8, **settings)
    made(autosave=True, batch_size=8, **settings | {"length": 33})
    take = resumed(sample=3)
    assert take["samples"].shape[:3] == (1, 16, 9)
    alone = made(prefix=take, **settings)
    assert torch.equal(alone[:, :, :9], batch[2:3, :, :9])
    torch.testing.assert_close(alone, batch[2:3], rtol=0, atol=ROUNDING)
    assert torch.equal(made(prefix=resumed(), batch_size=8, **settings), batch)
    plain = made(prefix={"samples": take["samples"]}, **settings)
    assert (plain - batch[2:3]).abs().max() > 1  # the noise of another sample


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


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"sample": 3}, r'sample is 3, but ".*" has 2: use 1 to 2, or 0 for all\.'),
        ({"until_seconds": 3}, r"until_seconds is 3, but 2\.06 s of this video are saved: use"),
    ],
)
def test_what_is_not_there_is_refused(inputs, said):
    made(autosave=True, batch_size=2, length=33)
    with pytest.raises(ValueError, match=said):
        resumed(**inputs)
