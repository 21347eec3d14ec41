"""What other nodes put into a model takes part in a rollout: LoRAs, fp8, attention, patches."""

import functools
import gc
import types
import weakref

import comfy.model_patcher
import comfy.samplers
import comfy.sd
import pytest
import tiny
import torch

CHUNKS, STEPS, LAYERS, TOKENS = 4, 2, 3, 4
ATTENDED = (0, 3, 4, 4)  # remembered frames that the chunks read


def sample(model, **settings):
    """A video of 4 chunks; the last two choose their history."""
    inputs = {"width": 32, "height": 32, "length": 12 * CHUNKS - 3, "seed": 3, "steps": STEPS}
    inputs |= {"cfg": 1.0, "frames_per_chunk": 3, "batch_size": 1, "autosave": False}
    latent, _ = tiny.node(
        "RelaxForcingSampler", model=model, positive=tiny.conditioning(1), **inputs | settings
    )
    return latent["samples"]


def loaded(weights, dtype=torch.float32):
    model = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": dtype})
    return tiny.node("RelaxForcingMemory", model=model, **tiny.MEMORY)[0]


def patched(**options):
    """The model with memory and with entries in its `transformer_options`."""
    model = tiny.remembering()
    model.model_options["transformer_options"].update(options)
    return model


@pytest.mark.parametrize("layer", ["self_attn.q", "self_attn.v", "cross_attn.k", "ffn.0"])
def test_a_lora_equals_weights_that_contain_it(layer):
    name = f"blocks.1.{layer}.weight"
    weights = tiny.state_dict()
    rows, columns = weights[name].shape
    generator = torch.Generator().manual_seed(0)
    up, down = (torch.randn(s, generator=generator) * 0.1 for s in ((rows, 4), (4, columns)))
    key = f"diffusion_model.blocks.1.{layer}"
    lora = {f"{key}.lora_B.weight": up, f"{key}.lora_A.weight": down}
    with_lora = comfy.sd.load_lora_for_models(tiny.remembering(), None, lora, 1.0, 0)[0]
    video = sample(with_lora)
    merged = sample(loaded(weights | {name: weights[name] + up @ down}))
    torch.testing.assert_close(video, merged, rtol=0, atol=2e-4)
    assert (video - sample(tiny.remembering())).abs().max() > 0.01


def test_fp8_weights_equal_weights_rounded_to_fp8():
    in_fp8 = loaded(tiny.state_dict(), torch.float8_e4m3fn)
    stored = in_fp8.model.diffusion_model.state_dict()  # the host leaves the patch embedding alone
    assert sum(weight.dtype == torch.float8_e4m3fn for weight in stored.values()) > 50
    video = sample(loaded({name: weight.float() for name, weight in stored.items()}))
    assert torch.equal(sample(in_fp8), video)


def test_an_attention_override_sees_memory_and_chunk():
    lengths = []

    def override(attention, query, key, value, *args, **kwargs):
        if query.shape[1] == 3 * TOKENS:  # self-attention: the chunk itself asks
            lengths.append(key.shape[1])
        return attention(query, key, value, *args, **kwargs)

    video = sample(patched(optimized_attention_override=override))
    self_attention = lengths[::2]
    assert torch.equal(video, sample(tiny.remembering()))
    passes = [STEPS + 1] * (CHUNKS - 1) + [STEPS]  # nothing reads what the last chunk remembers
    expected = [(a + 3) * TOKENS for a, n in zip(ATTENDED, passes, strict=True) for _ in range(n)]
    assert self_attention[::LAYERS] == expected


@pytest.mark.parametrize("name", ["attn1_patch", "attn2_patch"])
def test_attention_patches_run_in_every_layer_of_every_pass(name):
    calls = []

    def patch(arguments):
        calls.append(arguments["x"].shape)
        return 0.5 * arguments["x"]

    video = sample(patched(patches={name: [patch]}))
    assert set(calls) == {torch.Size((1, 3 * TOKENS, 256))}
    assert len(calls) == LAYERS * ((STEPS + 1) * CHUNKS - 1)
    assert (video - sample(tiny.remembering())).abs().max() > 0.01


def test_guidance_that_evaluates_a_prompt_once_more_leaves_memory_as_it_is():
    sigmas = []

    def evaluate_again(arguments):
        names = ("model", "cond", "input", "sigma", "model_options")
        model, cond, x, sigma, options = (arguments[name] for name in names)
        comfy.samplers.calc_cond_batch(model, [cond], x, sigma, options)
        sigmas.append(sigma.item())
        return arguments["denoised"]

    model = tiny.remembering().clone()
    model.set_model_sampler_post_cfg_function(evaluate_again)
    assert torch.equal(sample(model), sample(tiny.remembering()))
    assert len(sigmas) == STEPS * CHUNKS
    assert min(sigmas) > 0  # a clean pass predicts nothing


def test_layers_may_be_left_out_of_the_negative_in_every_tier():
    """As the host's SkipLayerGuidanceDiTSimple does it."""
    skipped = []

    def skip(block, _):
        skipped.append(block)
        return block

    def calculate(arguments):
        names = ("model", "input", "sigma", "model_options")
        model, x, sigma, options = (arguments[name] for name in names)
        cond, uncond = arguments["conds"]
        without = comfy.model_patcher.set_model_options_patch_replace(
            dict(options), skip, "dit", "double_block", 1
        )
        full, _ = comfy.samplers.calc_cond_batch(model, [cond, None], x, sigma, options)
        _, less = comfy.samplers.calc_cond_batch(model, [None, uncond], x, sigma, without)
        return [full, less]

    videos = []
    for tier in ("gpu", "cpu"):
        model = tiny.remembering(reservoir_device=tier).clone()
        model.set_model_sampler_calc_cond_batch_function(calculate)
        videos.append(sample(model, cfg=3.0, negative=tiny.conditioning(2), length=117))
    assert skipped
    assert torch.equal(*videos)


@pytest.mark.parametrize("other_node", ["none", "a method of the module", "a function"])
def test_a_model_that_is_let_go_is_gone_at_once(other_node):
    """Its weights would stay on the card, unknown to the host, until Python collects cycles."""
    plain = comfy.sd.load_diffusion_model_state_dict(tiny.state_dict())
    attention = plain.model.diffusion_model.blocks[1].self_attn
    forward = {
        "a method of the module": types.MethodType(type(attention).forward, attention),
        "a function": functools.partial(type(attention).forward, weakref.proxy(attention)),
    }
    if other_node in forward:
        plain.add_object_patch("diffusion_model.blocks.1.self_attn.forward", forward[other_node])
    model = tiny.node("RelaxForcingMemory", model=plain, **tiny.MEMORY)[0]
    expected = sample(tiny.remembering())
    network = weakref.ref(model.model.diffusion_model)
    del attention, forward, plain
    gc.collect()
    gc.disable()
    try:
        assert torch.equal(sample(model), expected)
        del model
        assert network() is None
    finally:
        gc.enable()
