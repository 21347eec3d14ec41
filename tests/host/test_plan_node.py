"""The plan node tells what a rollout then does."""

import pytest
import tiny

SIZE = {"width": 64, "height": 32, "frames_per_chunk": 3, "batch_size": 1}


def plan(length: int, **settings):
    return tiny.node("RelaxForcingPlan", model=tiny.remembering(**settings), length=length, **SIZE)


def test_the_paper_settings_look_back_at_most_fourteen_and_a_half_seconds():
    text, picture = plan(957, reservoir_frames=120)
    assert "in 80 chunks of 3" in text
    assert "among the moments 14.5, 11, 7.5, 4 s ago" in text
    assert "Mind" not in text
    assert picture.shape[0] == 1 and 0 <= picture.min() < picture.max() <= 1


@pytest.mark.parametrize(
    ("length", "warning"),
    [
        (958, "length 958 is not 4n + 1, so the video has 957 frames"),
        (953, "1 more are made and cut off; length 957 would keep them"),
        (81, "reservoir_frames 120 (30 s) is longer than the video"),
        (9, "too short for a choice of history"),
    ],
)
def test_surprises_are_told(length, warning):
    assert warning in plan(length, reservoir_frames=120)[0]


def test_a_size_that_the_sampler_refuses_is_refused():
    with pytest.raises(ValueError, match="width is 850, but Wan needs a multiple of 16: use 848"):
        tiny.node("RelaxForcingPlan", model=tiny.remembering(), length=81, **SIZE | {"width": 850})


def test_each_tier_is_costed_and_the_chosen_one_marked():
    text, _ = plan(957, reservoir_device="cpu", reservoir_dtype="fp8")
    assert text.count("reservoir_device") == 4
    assert "-> reservoir_device cpu, reservoir_dtype fp8" in text
