"""A video that is steered on a card: what it remembers is handed over where it lies."""

import pytest
import tiny
import torch
from device import host
from device.cards import CARDS, RUNTIME

RED, BLUE = "red", "blue"
CHUNKS = 6


def words(text: str) -> list:
    """What Prompt Schedule gives; both prompts are known, so that no text encoder is needed."""
    directed, source = host.part("host.directed"), host.part("host.steering.source")
    told = {"transition": "keep", "blend_seconds": 1.0}
    prompts = {RED: tiny.conditioning(1), BLUE: tiny.conditioning(2)}
    conditioning = directed.said(directed.read_text(text, told["transition"]), prompts, **told)
    return source.with_source(conditioning, clip=None, text=text, node_id="5", **told)


class Edits:
    """Other words while chunks of given numbers are made."""

    def __init__(self, desk, **wishes):
        self._desk, self._wishes = desk, wishes

    def keep(self, finished):
        wish = self._wishes.pop(f"at_{finished.chunk.film_index}", None)
        if wish:
            direct = self._desk.direct(host.part("host.steering.desk").Wish(**wish))
            self.text = direct["text"]


def made(text: str, where: str, **wishes) -> tuple[torch.Tensor, str, int, int]:
    """The film, its text in the end, the passes, and the most bytes that were in use."""
    request, generate = (host.part(f"host.{n}") for n in ("request", "sampling.generate"))
    used = []

    def call(network, arguments: dict):
        used.append(CARDS[0].used_bytes + RUNTIME.pinned_bytes)
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model = host.remembering(host.model(), reservoir_device=where, reservoir_frames=9).clone()
    model.set_model_unet_function_wrapper(call)
    with torch.inference_mode():
        asked = request.make_request(
            model=model,
            positive=words(text),
            negative=tiny.conditioning(3),
            **host.SIZE | {"length": 12 * CHUNKS - 3, "seed": 5, "steps": 2, "cfg": 3.0},
        )
        desk = host.part("host.steering.desk").Desk(asked)
        edits = Edits(desk, **wishes)
        latents, _ = generate.generate(asked, edits, desk=desk)
    return latents, getattr(edits, "text", text), len(used), max(used)


@pytest.mark.parametrize("where", ["gpu", "cpu"])
@pytest.mark.parametrize(
    ("wish", "more"),
    [
        ({}, 0),
        ({"transition": "blend"}, 0),
        ({"remember_seconds": 0.5}, 1),
        ({"transition": "keep", "start_seconds": 3.7}, 0),
        ({"transition": "recache"}, 0),
    ],
    ids=["keep", "blend", "moment", "no cut", "recache"],
)
def test_other_words_cost_a_card_no_pass_and_no_byte_more_than_their_text(where, wish, more):
    text = f"[0s] {RED}\n[3.7s cut] {BLUE}"
    steered, text, passes, used = made(text, where, at_3={"text": BLUE} | wish)
    again, _, passes_again, used_again = made(text, where)
    assert torch.equal(steered, again)
    assert passes == passes_again + more
    assert used - used_again < 2**16, (used, used_again)
