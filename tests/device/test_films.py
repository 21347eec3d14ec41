"""What films cost on a card: ten scenes hold what one does, and other words next to nothing."""

import pytest
import tiny
from device import host
from device.cards import CARDS, RUNTIME

SHOTS, FRAMES = 10, 3


def film(transition: str, chunks: int, shots: int = SHOTS) -> list:
    """A conditioning of so many shots of so many chunks each."""
    conditioning = None
    for number in range(shots):
        conditioning = tiny.node(
            "RelaxForcingShot",
            conditioning=tiny.conditioning(number),
            start_seconds=max(0, 4 * number * chunks * FRAMES - 3) / 16,
            transition=transition if number else "keep",
            blend_seconds=2.0,
            before=conditioning,
        )[0]
    return conditioning


def marks_of(positive, chunks: int, where: str = "gpu", **inputs) -> list[dict]:
    """What was held, and the ledger, before each call of the network."""
    marks = []
    model = host.remembering(host.model(), reservoir_device=where, reservoir_frames=120).clone()

    def call(network, arguments: dict):
        held = {"held": CARDS[0].used_bytes, "pinned": RUNTIME.pinned_bytes}
        marks.append(host.LEDGER.snapshot() | held)
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(call)
    host.sample(model, positive=positive, length=4 * chunks * FRAMES - 3, **inputs)
    return marks


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_ten_scenes_hold_no_more_than_one(where):
    """Beside weights and words, which are there at the first call."""
    chunks = 5
    one = marks_of(film("cut", chunks, shots=1), chunks, where)
    ten = marks_of(film("cut", chunks), SHOTS * chunks, where)
    for what in ("held", "pinned"):
        first, most = [max(m[what] for m in marks) - marks[0][what] for marks in (one, ten)]
        assert first == most, what
        assert first > 0 or (what, where) == ("pinned", "gpu")


def test_words_that_change_cost_next_to_nothing():
    """Less than a hundredth of everything; with recache one pass for each shot after the first."""
    chunks, counted = 2, ("launches", "bytes", "waits")

    def cost(transition: str, shots: int = SHOTS) -> dict[str, int]:
        marks = marks_of(film(transition, chunks, shots), SHOTS * chunks)
        return {"passes": len(marks)} | {key: marks[-1][key] - marks[0][key] for key in counted}

    one = cost("keep", shots=1)
    for transition in ("keep", "blend"):
        other = cost(transition)
        assert other["passes"] == one["passes"]
        for key in counted:
            assert other[key] == pytest.approx(one[key], rel=0.01), (transition, key)
    assert cost("recache")["passes"] == one["passes"] + SHOTS - 1
