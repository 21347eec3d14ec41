"""Where memory lies never changes the video, except for fp8, whose error is bounded and stated."""

import logging

import comfy.model_management
import pytest
import tiny
import torch
from comfy_extras.nodes_custom_sampler import SamplerCustom

from relax_memory.direction.shots import Shot
from relax_memory.host.room.budget import Budget, make_budget
from relax_memory.host.room.parking import waiting
from relax_memory.memory.costs import Costs
from relax_memory.memory.storage import Storage
from relax_memory.policies import RelaxedMemory
from relax_memory.storyboard import Storyboard

VIDEO = {
    "width": 48,
    "height": 32,
    "length": 109,
    "seed": 3,
    "steps": 2,
    "cfg": 1.0,
    "frames_per_chunk": 3,
    "batch_size": 2,
    "autosave": False,
}


def sample(model, **settings):
    conditioning = tiny.conditioning(1)
    return tiny.node("RelaxForcingSampler", model=model, positive=conditioning, **VIDEO | settings)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("policy", [{}, {"rope": "absolute"}, {"tail_frames": 5}])
def test_host_memory_gives_the_same_bits(policy):
    kept, _ = sample(tiny.remembering(**policy))
    moved, _ = sample(tiny.remembering(reservoir_device="cpu", **policy))
    assert torch.equal(kept["samples"], moved["samples"])


def test_fp8_changes_the_video_by_less_than_a_percent():
    """Measured 0.13 % of the largest latent value after 36 frames of this random model."""
    exact, exact_trace = sample(tiny.remembering())
    packed, packed_trace = sample(tiny.remembering(reservoir_dtype="fp8"))
    error = relative_error(packed["samples"], exact["samples"])
    assert 0 < error < 0.01
    assert [c.history for c in packed_trace.chunks] == [c.history for c in exact_trace.chunks]


def test_fp8_leaves_sinks_and_tail_exact():
    settings = {"history_frames": 0, "tail_frames": 5}
    exact, _ = sample(tiny.remembering(**settings))
    packed, _ = sample(tiny.remembering(reservoir_dtype="fp8", **settings))
    assert torch.equal(exact["samples"], packed["samples"])


def test_what_cannot_fit_is_refused_before_sampling(monkeypatch):
    """Free memory is a fact about the machine that a test cannot have; all else is real."""
    model = tiny.remembering()
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 100_000)
    with pytest.raises(ValueError, match=r"0\.1 MB are free on cpu.*reservoir_dtype.*saves"):
        sample(model)


def test_without_a_memory_node_what_cannot_fit_is_refused_too(monkeypatch):
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)
    empty = {"samples": torch.zeros(1, 16, 12, 4, 6)}
    arguments = {"add_noise": True, "noise_seed": 3, "cfg": 1.0, "sampler": sampler}
    arguments |= {"positive": tiny.conditioning(1), "negative": tiny.conditioning(2)}
    arguments |= {"sigmas": torch.tensor([1.0, 0.5, 0.0]), "latent_image": empty}
    SamplerCustom.execute(model=tiny.model(), **arguments)
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 100_000)
    with pytest.raises(ValueError, match=r"0\.1 MB are free on cpu"):
        SamplerCustom.execute(model=tiny.model(), **arguments)


@pytest.mark.parametrize(("device", "fits"), [("cuda", True), ("mps", False)])
def test_a_device_that_computes_in_host_memory_has_one_budget(device, fits):
    shares = Costs(bank_bytes=60, buffer_bytes=30)
    budget = Budget(
        policy=RelaxedMemory(),
        storage=Storage(device="cpu"),
        weights_bytes=0,
        chunk_bytes=30,
        costs=shares,
        device=torch.device(device),
        device_free_bytes=100,
        host_free_bytes=100,
    )
    assert budget.fits == fits


def test_auto_keeps_memory_on_the_gpu_only_where_enough_is_left_of_it(monkeypatch):
    """A GPU by its name alone: deciding needs nothing of it but its free memory."""
    model = tiny.remembering()
    monkeypatch.setattr(model, "load_device", torch.device("cuda"))
    film = Storyboard(RelaxedMemory(), total_frames=30, chunk_frames=3)

    def budget(device: str, *, free_bytes: int = 0, spared_bytes: int = 0) -> Budget:
        monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: free_bytes)
        sizes = {"rows": 4, "height": 60, "width": 104, "spared_bytes": spared_bytes}
        return make_budget(model, film, Storage(device=device), **sizes)

    kept = comfy.model_management.extra_reserved_memory()
    needed = budget("gpu").device_bytes + budget("gpu").weights_bytes + kept
    cases = [(needed, 0), (needed - 1, 0), (needed, 1), (needed + 1, 1)]
    chosen = [budget("auto", free_bytes=free, spared_bytes=spared) for free, spared in cases]
    assert [each.storage.device for each in chosen] == ["gpu", "cpu", "cpu", "gpu"]


def test_scenes_that_spare_most_passes_wait_where_there_is_room_for_some(monkeypatch):
    """Half of the host memory that the run leaves is given out; the rest keep their latents."""
    model = tiny.remembering()
    monkeypatch.setattr(model, "load_device", torch.device("cuda"))
    starts = {0: 0, 2: 1, 6: 0, 7: 2, 8: 1}  # chunk: scene
    shots = tuple(
        Shot(first_chunk=chunk, prompt=0, scene=scene, transition="cut" if chunk else "keep")
        for chunk, scene in starts.items()
    )
    film = Storyboard(RelaxedMemory(), total_frames=30, chunk_frames=3, shots={"positive": shots})

    def chosen(free_bytes: int, device: str = "gpu") -> dict[int, int]:
        monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: free_bytes)
        sizes = {"rows": 1, "height": 4, "width": 6}
        return waiting(make_budget(model, film, Storage(device=device), **sizes), film)

    both = chosen(10**9)
    assert list(both) == [1, 0]  # the third never comes back
    budget = make_budget(model, film, Storage(device="cpu"), rows=1, height=4, width=6)
    assert both == {scene: budget.scenes[scene].bytes for scene in (1, 0)}
    assert chosen(2 * sum(both.values())) == both
    assert chosen(2 * sum(both.values()) - 1) == {1: both[1]}
    assert chosen(2 * min(both.values()) - 1) == {}
    assert chosen(2 * sum(both.values()), "cpu") != both
    assert chosen(2 * sum(both.values()) + budget.host_bytes, "cpu") == both


def test_for_a_window_that_cannot_fit_only_its_own_settings_are_named(monkeypatch):
    inputs = {"sink_frames": 0, "window_frames": 0, "rope": "hybrid"}
    (model,) = tiny.node("RelaxForcingWindowMemory", model=tiny.model(), **inputs)
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 100_000)
    with pytest.raises(ValueError, match=r"set window_frames to fewer .*saves? up to") as refused:
        sample(model)
    assert "reservoir" not in str(refused.value)


def test_a_negative_that_a_node_keeps_at_cfg_1_is_counted(caplog):
    """Nodes such as the host's NAGuidance switch the host's saving of half the work off."""
    model = tiny.remembering()
    model.model_options["disable_cfg1_optimization"] = True
    lines = []
    for case in (
        {"model": model, "cfg": 1.0},
        {"model": tiny.remembering(), "cfg": 3.0},
        {"model": tiny.remembering(), "cfg": 1.0},
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            sample(**case, length=57, negative=tiny.conditioning(2))
        lines += [line for line in caplog.messages if "remembered in" in line]
    kept, guided, skipped = lines
    assert kept == guided != skipped


def test_the_log_says_where_memory_lies(caplog):
    with caplog.at_level(logging.INFO):
        sample(tiny.remembering(reservoir_device="auto"), length=13)
    assert "read by attention" in caplog.text
