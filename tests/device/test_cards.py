"""A run on a card takes what is said of that card before: the same tier, weights and bytes."""

import comfy.model_management
import comfy.sd
import pytest
import tiny
import torch
from device import host
from device.cards import CARDS, CONTEXT_BYTES
from small import transformer

KEPT_BYTES = 8 << 20  # what the host leaves alone: enough for two layers on their way
SLACK_BYTES = 1 << 18  # words that lie on the card before the run
SIZE = {"width": 256, "height": 128, "frames_per_chunk": 3, "steps": 1, "length": 65}


@pytest.fixture(autouse=True)
def small_reserves(monkeypatch):
    """The host leaves alone what suits a small model, not a gigabyte."""
    management = comfy.model_management
    monkeypatch.setattr(management, "EXTRA_RESERVED_VRAM", KEPT_BYTES)
    monkeypatch.setattr(management, "minimum_inference_memory", lambda: 2 * KEPT_BYTES)


@pytest.fixture
def model():
    """With the proportions of Wan 1.3B."""
    loaded = comfy.sd.load_diffusion_model_state_dict(
        transformer(384, 3, ffn_dim=2240), model_options={"dtype": torch.float32}
    )
    return host.remembering(loaded, reservoir_device="auto", reservoir_frames=12)


def planned(model):
    """The budget that Plan reckons with, on a card where everything fits."""
    policy = model.model_options["transformer_options"]["relax_forcing"].policy
    film = host.part("storyboard").Storyboard(policy, total_frames=17, chunk_frames=3)
    size = {"rows": 1, "height": SIZE["height"] // 8, "width": SIZE["width"] // 8}
    size["text_tokens"] = tiny.conditioning(1)[0][0].shape[1]
    storage = host.part("memory.storage").Storage()
    return host.part("host.room.budget").make_budget(model, film, storage, **size)


def on_card(budget, card_bytes: int):
    """The same on a card of a size, which the simulated one has from here on."""
    CARDS[0].total_bytes = card_bytes
    storage = host.part("memory.storage").Storage(device="auto")
    return host.part("host.room.cards").on_card(budget, card_bytes, storage)


def least_beside_weights(budget) -> int:
    """With what is remembered in host memory."""
    return budget.chunk_bytes + budget.costs.buffer_bytes + budget.costs.crossing_bytes


@pytest.mark.parametrize(
    ("weights", "stored", "tier"),
    [(0.5, 0, "cpu"), (1, 0, "cpu"), (1, 1, "gpu")],
    ids=["weights streamed", "weights on the card", "all on the card"],
)
def test_a_run_takes_what_is_said_of_its_card(model, monkeypatch, weights, stored, tier):
    whole, runs = planned(model), []
    least = CONTEXT_BYTES + KEPT_BYTES + least_beside_weights(whole)
    beside = int(weights * whole.weights_bytes + stored * whole.costs.bank_bytes)
    told = on_card(whole, least + SLACK_BYTES + beside)
    reserve = host.part("host.room.reserve")
    check = reserve.check_budget
    monkeypatch.setattr(reserve, "check_budget", lambda b: (runs.append(b), check(b)))
    host.sample(model, **SIZE)
    (taken,) = runs
    assert (told.storage.device, told.resident_bytes == whole.weights_bytes) == (tier, weights == 1)
    assert taken.storage == told.storage
    assert model.loaded_size() <= told.resident_bytes
    assert (model.loaded_size() == whole.weights_bytes) == (weights == 1)
    share = CARDS[0].peak_bytes / told.promised_bytes
    print(f"peak {share - 1:+.1%} of {told.promised_bytes / 1e6:.1f} MB promised")
    assert 0.95 <= share <= 1


def test_a_card_that_is_said_to_be_too_small_is_refused(model):
    whole = planned(model)
    least = CONTEXT_BYTES + least_beside_weights(whole)
    assert host.part("host.room.cards").CONTEXT_BYTES == CONTEXT_BYTES
    assert on_card(whole, least).fits
    assert not on_card(whole, least - 1).fits
    with pytest.raises(ValueError, match="are free on cuda:0"):
        host.sample(model, **SIZE)


@pytest.mark.parametrize("dtype", ["model", "fp8"])
@pytest.mark.parametrize("inputs", [{}, {"batch_size": 2, "cfg": 3.0}], ids=["one", "batch, cfg"])
def test_no_more_is_on_its_way_to_host_memory_than_is_reserved(monkeypatch, dtype, inputs):
    """However far the host runs ahead: it is held, so that this does not depend on the hour."""
    transfer, reserve = host.part("memory.transfer").Transfer, host.part("host.room.reserve")
    cross, check, told, held = transfer._cross, reserve.check_budget, [], []

    def crossing(self, copies, on_device):
        made = cross(self, copies, on_device)
        blocks = {t.block: t.block.size for each in self._under_way for t in each.tensors}
        held.append(sum(blocks.values()))
        return made

    monkeypatch.setattr(transfer, "_cross", crossing)
    monkeypatch.setattr(reserve, "check_budget", lambda b: (told.append(b), check(b)))
    model = host.remembering(host.model(), reservoir_device="cpu", reservoir_dtype=dtype)
    host.sample(model, **inputs)
    (budget,) = told
    assert 0.5 * budget.costs.crossing_bytes <= max(held) <= budget.costs.crossing_bytes


@pytest.mark.parametrize(
    ("node", "settings", "read_frames"),
    [
        ("RelaxForcingMemory", tiny.MEMORY | {"reservoir_frames": 60, "rope": "absolute"}, 7),
        ("RelaxForcingWindowMemory", {"sink_frames": 0, "window_frames": 18}, 21),
    ],
    ids=["absolute", "window"],
)
def test_angles_of_times_that_change_take_what_is_set_aside(node, settings, read_frames):
    model, held = tiny.node(node, model=host.model(), **settings)[0].clone(), []

    def call(network, arguments: dict):
        ropes = arguments["c"]["transformer_options"]["relax_forcing"].session._ropes.values()
        held.append(sum(a.nbytes for rope in ropes for a in rope._angles.values()))
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(call)
    host.sample(model, length=12 * 20 - 3)
    rope = settings.get("rope", "hybrid")
    aside = host.part("host.model.positions").angle_bytes(
        4, 128, read_frames=read_frames, rope=rope
    )
    assert 0.75 * aside < max(held) <= aside
