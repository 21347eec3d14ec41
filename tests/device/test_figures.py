"""What a steady chunk costs beside plain passes of the model, so that it cannot creep."""

import pytest
from device import host
from device.figures import CPU, FRAMES, PASSES, REGIMES, STEADY, plain, relaxed
from device.ledger import LEDGER


def over_plain(ours: dict, theirs: dict, figure: str) -> float:
    """Percent."""
    return 100 * (ours[figure] / theirs[figure] - 1)


@pytest.mark.parametrize(
    ("regime", "percent"),
    [
        ("gpu", -6.8),
        ("cpu", -7.4),
        ("gpu fp8", -2.5),
        ("cpu fp8", -2.5),
        ("cfg", -3.3),
        ("batch", -3.7),
    ],
)
def test_launches_and_waits_of_a_chunk(regime, percent):
    memory, inputs = REGIMES[regime]
    ours, theirs = relaxed(memory, **inputs), plain(**inputs)
    assert theirs["launches"] > 4000
    assert over_plain(ours, theirs, "launches") <= percent
    scores_and_finite = 2
    assert ours["waits"] <= theirs["waits"] + scores_and_finite
    assert (ours["copied"] > 0) == ("reservoir_device" in memory)


def test_launches_and_bytes_of_a_chunk_at_the_size_of_wan():
    ours, theirs = relaxed({}, "832x480"), plain("832x480")
    assert over_plain(ours, theirs, "launches") <= -6.3
    assert over_plain(ours, theirs, "bytes") <= 7.2
    assert 150e9 < theirs["bytes"] < 200e9


def test_only_rows_that_read_a_frame_go_over_pcie():
    """Two samples, of which each fetches its own history, upload twice what one does."""
    one, two = relaxed(CPU), relaxed(CPU, rows=2)
    assert one["copied"] < two["copied"] <= 2 * one["copied"]


def test_waits_of_a_chunk_of_our_nodes():
    """Five are the host's, one for each pass; ours are the finished latents and the scores.

    The host's previews, where they are on, come to that: one a step.
    """
    marks = []
    model = host.watched(host.remembering(host.model()), marks)
    host.sample(model, steps=PASSES - 1, length=4 * FRAMES - 3)
    start, end = (marks[chunk * PASSES]["waits"] for chunk in (STEADY, STEADY + 1))
    waits = LEDGER.waits[start:end]
    assert sum("latent_preview" not in wait for wait in waits) == PASSES + 2
    assert sum("latent_preview" in wait for wait in waits) <= PASSES - 1
