"""What hosts have that could not be run here, by stand-ins of the same name and signature."""

from contextlib import contextmanager

import comfy.model_prefetch
import folder_paths
import pytest
import tiny
import tiny_vae
import torch
from runs import WAYS, sample


class ComfyAttention(torch.nn.Module):
    """Of every attention layer, from 0.38 on."""

    def __init__(self):
        super().__init__()
        self.function = None


@pytest.mark.parametrize("way", WAYS)
def test_the_kernel_that_a_layer_prefers_is_passed_on(monkeypatch, way):
    expected = WAYS[way]()
    module, seen = tiny.part("host.model.attention"), []
    attention = module.optimized_attention

    def newer(q, k, v, heads, *args, preferred_attention=None, **kwargs):
        seen.append(preferred_attention)
        return attention(q, k, v, heads, *args, **kwargs)

    blocks = tiny.model("wan").model.diffusion_model.blocks
    chosen = [ComfyAttention() for _ in blocks[:-1]]
    for block, one in zip(blocks, chosen, strict=False):
        monkeypatch.setattr(block.self_attn, "comfy_attention", one, raising=False)
    monkeypatch.setattr(module, "optimized_attention", newer)
    assert torch.equal(WAYS[way](), expected)
    assert seen[: len(blocks)] == [*chosen, None]  # the last layer has none
    assert len(seen) % len(blocks) == 0 and seen == seen[: len(blocks)] * (len(seen) // len(blocks))


@pytest.fixture
def paused(monkeypatch):
    """Whether the host would leave allocations alone now."""
    entered = []

    @contextmanager
    def pause_malloc_graph(sync=False):
        entered.append(sync)
        try:
            yield
        finally:
            entered.pop()

    monkeypatch.setattr(
        comfy.model_prefetch, "pause_malloc_graph", pause_malloc_graph, raising=False
    )
    yield lambda: bool(entered)
    assert not entered


def test_what_is_remembered_is_no_part_of_the_hosts_graph(paused, monkeypatch):
    expected = sample()
    memory, calls = tiny.part("memory.recall").Memory, []

    def spy(name):
        method = getattr(memory, name)

        def spied(*args, **kwargs):
            calls.append((name, paused()))
            return method(*args, **kwargs)

        monkeypatch.setattr(memory, name, spied)

    for name in ("read", "commit"):
        spy(name)
    seen = []
    network = tiny.model("wan").model.diffusion_model
    hook = network.blocks[0].ffn.register_forward_pre_hook(lambda *_: seen.append(paused()))
    try:
        assert torch.equal(sample(), expected)
    finally:
        hook.remove()
    assert {name for name, _ in calls} == {"read", "commit"}
    assert all(inside for _, inside in calls)
    assert seen and not any(seen)  # what the host computes stays in its graph


def test_what_a_decoder_looks_back_at_is_no_part_of_the_hosts_graph(paused, monkeypatch, tmp_path):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    seen = []
    vae = tiny_vae.vae()
    decoder = vae.first_stage_model.decoder
    hook = decoder.conv1.register_forward_pre_hook(lambda *_: seen.append(paused()))
    inputs = {"samples": {"samples": tiny_vae.latents(5)}, "vae": vae, "fps": 16.0}
    try:
        tiny.node("RelaxForcingDecode", **inputs, filename_prefix="video/test")
    finally:
        hook.remove()
    assert seen and all(seen)
