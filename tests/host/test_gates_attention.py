"""Nodes that put their own function where a block attends, before and after the memory node."""

import types

import pytest
import tiny
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.samplers import KSAMPLER
from runs import WAYS, sample_custom

BLOCKS = "diffusion_model.blocks"


def light_attention(self, x, freqs, transformer_options=None):
    """Attends within what it is given, as a node that saves memory does."""
    query, key, value = self.q(x), self.k(x), self.v(x)
    out = optimized_attention(query, key, value, heads=self.num_heads)
    return self.o(out)


def patched(model, *, attention="self_attn", make=None):
    """The hook of KJNodes' kind: an object patch on the method of every block."""
    model = model.clone()
    for index, block in enumerate(model.model.diffusion_model.blocks):
        module = getattr(block, attention)
        replacement = make(module) if make else types.MethodType(light_attention, module)
        model.add_object_patch(f"{BLOCKS}.{index}.{attention}.forward", replacement)
    return model


def enhanced(module):
    """Scales what the module's own attention gives."""
    original = module.forward

    def scaled_attention(x, freqs, transformer_options=None):
        return 1.1 * original(x, freqs, transformer_options=transformer_options)

    return scaled_attention


def remembering(model):
    return tiny.node("RelaxForcingMemory", model=model, **tiny.MEMORY)[0]


KINDS = {
    "computed anew": (None, "light_attention of .*test_gates_attention"),
    "scaled": (enhanced, "enhanced.scaled_attention of .*test_gates_attention"),
}
ORDERS = {
    "after": lambda make: patched(tiny.remembering(), make=make),
    "before": lambda make: remembering(patched(tiny.model(), make=make)),
    "without a memory node": lambda make: patched(tiny.model(), make=make),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_replaced_self_attention_is_named(kind, order, way):
    make, function = KINDS[kind]
    words = rf"model has {function} as {BLOCKS}.0.self_attn.forward, .*: remove that node, or use"
    with pytest.raises(ValueError, match=words):
        WAYS[way](model=ORDERS[order](make))


@pytest.mark.parametrize("way", WAYS)
def test_a_method_set_past_the_patcher_is_named(way):
    """As older nodes do it, on the module itself."""
    model = tiny.model.__wrapped__()
    module = model.model.diffusion_model.blocks[1].self_attn
    module.forward = types.MethodType(light_attention, module)
    with pytest.raises(ValueError, match=rf"light_attention of .* as {BLOCKS}.1.self_attn"):
        WAYS[way](model=model)


def test_cross_attention_may_be_replaced_before_and_after():
    def make(module):
        original = module.forward
        return lambda *args, **kwargs: 0.5 * original(*args, **kwargs)

    after = patched(tiny.remembering(), attention="cross_attn", make=make)
    before = remembering(patched(tiny.model(), attention="cross_attn", make=make))
    videos = [WAYS["own"](model=model) for model in (after, before)]
    assert torch.equal(*videos)
    assert (videos[0] - WAYS["own"]()).abs().max() > 0.01


def lying_sampler(model, x, sigmas, *, wrapped, **kwargs):
    """A sampler around a sampler, as Lying Sigma and Detail Daemon are."""
    return wrapped.sampler_function(model, x, sigmas, **kwargs, **wrapped.extra_options)


def test_a_sampler_that_wraps_ours_is_named():
    ours = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)[0]
    wrapping = KSAMPLER(lying_sampler, {"wrapped": ours})
    words = r"sampler is .* inside another sampler \(lying_sampler\), .*: connect it to Sampler"
    with pytest.raises(ValueError, match=words):
        sample_custom(sampler=wrapping)
