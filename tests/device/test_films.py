"""What films cost on a card: ten scenes hold what one does, and other words next to nothing."""

import pytest
import tiny
import torch
from device import host
from device.cards import CARDS, RUNTIME
from device.test_steering import BLUE, RED, words

SHOTS, FRAMES = 10, 3
FRAME_ANGLES = 4 * 64 * 4 * 4  # bytes: 4 tokens, half a head, a matrix of 2 x 2 in float32


def film(transition: str, chunks: int, shots: int = SHOTS, scenes: int = 0) -> list:
    """A conditioning of so many shots of so many chunks each, of so many named scenes in turn."""
    conditioning = None
    for number in range(shots):
        conditioning = tiny.node(
            "RelaxForcingShot",
            conditioning=tiny.conditioning(number),
            start_seconds=max(0, 4 * number * chunks * FRAMES - 3) / 16,
            transition=transition if number else "keep",
            blend_seconds=2.0,
            scene=str(number % scenes) if scenes else "",
            before=conditioning,
        )[0]
    return conditioning


def made(positive, chunks: int, where: str = "gpu", **inputs) -> tuple[torch.Tensor, list[dict]]:
    """The film, and what was held, and the ledger, before each call of the network."""
    marks = []
    model = host.remembering(host.model(), reservoir_device=where, reservoir_frames=120).clone()

    def call(network, arguments: dict):
        held = {"held": CARDS[0].used_bytes, "pinned": RUNTIME.pinned_bytes}
        marks.append(host.LEDGER.snapshot() | held)
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(call)
    length = 4 * chunks * FRAMES - 3
    return host.sample(model, positive=positive, length=length, **inputs), marks


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_ten_scenes_hold_no_more_than_one(where):
    """Beside weights and words, which are there at the first call.

    But for the angles of one frame, where another scene chooses so that one moves alone.
    """
    chunks = 5
    _, one = made(film("cut", chunks, shots=1), chunks, where)
    _, ten = made(film("cut", chunks), SHOTS * chunks, where)
    for what in ("held", "pinned"):
        first, most = [max(m[what] for m in marks) - marks[0][what] for marks in (one, ten)]
        assert first <= most <= first + FRAME_ANGLES, what
        assert first > 0 or (what, where) == ("pinned", "gpu")


@pytest.mark.parametrize(
    ("where", "inputs"),
    [
        ("gpu", {}),
        ("cpu", {"cfg": 3.0, "batch_size": 2}),
        ("gpu", {"clean_pass": "never"}),
        ("cpu", {"vae": host.vae()}),
    ],
    ids=["plain", "cfg, batch", "no clean pass", "stream"],
)
def test_nothing_on_the_card_grows_from_chunk_to_chunk(where, inputs):
    chunks, used = 14, []
    model = host.remembering(host.model(), reservoir_device=where).clone()

    def call(network, arguments: dict):
        used.append(CARDS[0].used_bytes)
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(call)
    run = host.stream if "vae" in inputs else host.sample
    run(model, length=4 * chunks * FRAMES - 3, steps=2, **inputs)
    passes = -(-len(used) // chunks)  # the last chunk is not remembered
    early, late = (used[chunk * passes : (chunk + 1) * passes] for chunk in (8, 12))
    assert early == late and len(late) == passes > 1


def test_a_moment_holds_its_frame_and_nothing_beside(monkeypatch):
    """Not the chunk that it was in, as a view of that would; as many bytes as are set aside."""
    reserve, told = host.part("host.room.reserve"), []
    check = reserve.check_budget
    monkeypatch.setattr(reserve, "check_budget", lambda b: (told.append(b), check(b)))
    seen, model = [], host.remembering(host.model(), reservoir_frames=120).clone()

    def call(network, arguments: dict):
        session = arguments["c"]["transformer_options"]["relax_forcing"].session
        pairs = [p for m in session._moments.values() for at in m.values() for p in at.values()]
        tensors = [tensor for pair in pairs for tensor in pair]
        blocks = {tensor.block: tensor.block.size for tensor in tensors}
        seen.append((sum(tensor.nbytes for tensor in tensors), sum(blocks.values())))
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(call)
    host.sample(model, positive=words(f"[0s] {RED}\n[2.2s cut @1s] {BLUE}"), length=69)
    (budget,) = told
    aside = budget.costs.buffer_bytes - max(scene.buffer_bytes for scene in budget.scenes)
    assert seen[-1][0] == aside > 0
    assert all(own == held for own, held in seen)


def test_words_that_change_cost_next_to_nothing():
    """Less than a hundredth beside the text itself, which is embedded and projected once.

    With recache one pass for each shot after the first.
    """
    chunks, counted = 2, ("launches", "bytes", "waits")

    def cost(transition: str, shots: int = SHOTS) -> dict[str, int]:
        _, marks = made(film(transition, chunks, shots), SHOTS * chunks)
        return {"passes": len(marks)} | {key: marks[-1][key] - marks[0][key] for key in counted}

    one, two = cost("keep", shots=1), cost("keep", shots=2)
    text = {key: two[key] - one[key] for key in counted}
    assert 2 * 3 < text["launches"] < 2 * 3 + 10  # keys, their norm, and values in each layer
    for transition, texts in {"keep": SHOTS - 1, "blend": SHOTS * chunks - 1}.items():
        other = cost(transition)
        assert other["passes"] == one["passes"]
        for key in counted:
            assert one[key] <= other[key] <= 1.01 * one[key] + texts * text[key], (transition, key)
    assert cost("recache")["passes"] == one["passes"] + SHOTS - 1


@pytest.mark.parametrize("where", ["gpu", "cpu"])
def test_scenes_that_wait_lie_in_host_memory(monkeypatch, where):
    """With the bits that they have made again, in as many bytes as were planned for.

    On the card only their prototypes stay.
    """
    chunks, parts = 3, 5
    planned, parked = {}, {}
    session = host.part("host.sampling.session").Session
    reserve, park = host.part("host.room.reserve"), session.park
    waiting = reserve.waiting

    def planning(*arguments):
        planned.update(waiting(*arguments))
        return planned

    def parking(self, scene):
        memories = [m for (_, own), m in self.memories.items() if own == scene]
        before = CARDS[0].used_bytes
        park(self, scene)
        left = CARDS[0].used_bytes - before
        parked.setdefault(scene, []).append((sum(memory.bytes for memory in memories), left))

    positive = film("cut", chunks, parts, scenes=2)
    monkeypatch.setattr(reserve, "waiting", planning)
    monkeypatch.setattr(session, "park", parking)
    latents, marks = made(positive, parts * chunks, where)
    assert planned.keys() == parked.keys() == {0, 1}
    for scene, moved in parked.items():
        for size, left in moved:
            assert size == planned[scene]
            assert left == -size if where == "gpu" else -size < left < 0
    monkeypatch.setattr(reserve, "waiting", lambda *_: {})
    again, more = made(positive, parts * chunks, where)
    assert torch.equal(latents, again)
    assert len(marks) < len(more)
    held, held_again = (max(mark["held"] for mark in each) for each in (marks, more))
    assert held - held_again < 0.02 * planned[0]


def test_a_scene_comes_back_to_the_card_that_it_left():
    positive, chunks = film("cut", 2, 3, scenes=2), 6
    model = host.remembering(host.model("cuda:1"), reservoir_device="gpu", reservoir_frames=120)
    latents = host.sample(model, positive=positive, length=4 * chunks * FRAMES - 3)
    assert CARDS[0].allocations == 0
    assert torch.equal(latents, made(positive, chunks)[0])
