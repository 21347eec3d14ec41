"""What is left out of a pass or broken is named at its step; what takes part is remembered."""

import types

import comfy.patcher_extension
import comfy.samplers
import pytest
import tiny
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import CFGOverride, RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_perpneg import Guider_PerpNeg, PerpNeg

STEPS, LAYERS = 4, 3
SIGMAS = torch.tensor([1.0, 0.9375, 0.8333, 0.625, 0.0])


def sample(model=None, **settings):
    """Four chunks with the paper's schedule; the last two choose their history."""
    inputs = {"width": 32, "height": 32, "length": 45, "seed": 3, "steps": STEPS, "cfg": 1.0}
    inputs |= {"frames_per_chunk": 3, "batch_size": 1, "autosave": False}
    inputs |= {"positive": tiny.conditioning(1), "model": model or tiny.remembering()}
    latent, trace = tiny.node("RelaxForcingSampler", **inputs | settings)
    return latent["samples"], trace


def with_wrapper(kind, wrapper):
    model = tiny.remembering().clone()
    model.add_wrapper(kind, wrapper)
    return model


# --- what is left out -----------------------------------------------------------------------------


def skips_steps(calls):
    """A cache of whole steps: every third call answers what the last one did."""

    def wrapper(executor, *args, **kwargs):
        calls.append(1)
        if len(calls) % 3 == 0:
            return wrapper.last
        wrapper.last = executor(*args, **kwargs)
        return wrapper.last

    return wrapper


def replaced_forward(network):
    """A cache that takes the place of the model's `forward`."""
    original, kept = network.forward, []

    def cached_forward(self, *args, **kwargs):
        kept.append(original(*args, **kwargs) if len(kept) % 3 != 2 else kept[-1])
        return kept[-1]

    return types.MethodType(cached_forward, network)


def skips_a_block_now_and_then(calls):
    def skip(arguments, extra):
        calls.append(1)
        return arguments if len(calls) % 3 == 2 else extra["original_block"](arguments)

    return skip


CACHES = {
    "of predictions": (
        lambda: with_wrapper(WrappersMP.PREDICT_NOISE, skips_steps([])),
        "skips_steps.wrapper of",
    ),
    "of the transformer": (
        lambda: with_wrapper(WrappersMP.DIFFUSION_MODEL, skips_steps([])),
        "skips_steps.wrapper of",
    ),
}


@pytest.mark.parametrize("kind", CACHES)
def test_a_cache_that_answers_for_the_model_is_refused_at_its_step(kind):
    make, name = CACHES[kind]
    with pytest.raises(RuntimeError, match=rf"left out while step \d of chunk 1 ran.*{name}"):
        sample(make())


def test_a_replaced_forward_is_named():
    model = tiny.remembering().clone()
    network = model.model.diffusion_model
    network.forward = replaced_forward(network)
    try:
        with pytest.raises(RuntimeError, match=r"step 3 of chunk 1 ran.*cached_forward of"):
            sample(model)
    finally:
        del network.forward


def test_a_layer_that_is_left_out_of_some_steps_is_named():
    model = tiny.remembering().clone()
    model.set_model_patch_replace(skips_a_block_now_and_then([]), "dit", "double_block", 1)
    words = r"Layer 1 of the positive conditioning takes part in some steps only; it is missing"
    with pytest.raises(RuntimeError, match=words + r" while step 2 of chunk 1 ran.*skips_a_block"):
        sample(model)


def test_a_prompt_evaluated_twice_while_it_is_remembered_is_refused():
    def twice(executor, x, timestep, *args, **kwargs):
        if timestep.max() == 0:
            executor(x, timestep, *args, **kwargs)
        return executor(x, timestep, *args, **kwargs)

    with pytest.raises(RuntimeError, match="evaluated twice while chunk 1 is being remembered"):
        sample(with_wrapper(WrappersMP.PREDICT_NOISE, twice))


def test_a_run_that_is_tried_again_goes_on():
    tried = []

    def again(executor, *args, **kwargs):
        try:
            return executor(*args, **kwargs)
        except MemoryError:
            return executor(*args, **kwargs)

    def fails_once(executor, x, timestep, *args, **kwargs):
        tried.append(1)
        if len(tried) == 12:  # in the third chunk
            raise MemoryError
        return executor(x, timestep, *args, **kwargs)

    model = with_wrapper(WrappersMP.OUTER_SAMPLE, again)
    model.add_wrapper(WrappersMP.PREDICT_NOISE, fails_once)
    assert torch.equal(sample(model)[0], sample()[0])
    assert len(tried) > 12


# --- what is broken -------------------------------------------------------------------------------


BREAKS = {  # pass in which one value of one layer breaks, counted over all chunks
    "in a step": (STEPS + 2, torch.nan, 2),
    "infinite in a step": (STEPS + 2, torch.inf, 2),
    "while it is remembered": (2 * STEPS + 1, torch.nan, 3),
}


@pytest.mark.parametrize("when", BREAKS)
def test_a_chunk_that_is_not_finite_is_never_kept(when, tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.output_directory", str(tmp_path))
    at_pass, value, chunk = BREAKS[when]
    calls = []

    def breaks_once(attention, *args, **kwargs):
        calls.append(1)
        out = attention(*args, **kwargs)
        return out * value if len(calls) == 2 * LAYERS * at_pass + 1 else out

    broken = tiny.remembering().clone()
    broken.model_options["transformer_options"]["optimized_attention_override"] = breaks_once
    with pytest.raises(
        RuntimeError, match=f"Chunk {chunk} of 4 came out of the model as NaN .*bf16"
    ):
        sample(broken, autosave=True)
    assert len(list(tmp_path.rglob("*.safetensors"))) == chunk - 1
    assert torch.equal(sample(autosave=True)[0], sample()[0])


# --- what takes part is remembered ----------------------------------------------------------------


def guided_in_part(start=0.0, end=0.5):
    return CFGOverride.execute(tiny.remembering(), 3.0, start, end)[0]


def test_guidance_for_some_steps_remembers_both_prompts():
    """The usual advice for few-step models: guidance in the first half."""
    video, trace = sample(guided_in_part(), negative=tiny.conditioning(2))
    assert trace.rows == ("positive 0", "negative 0")
    assert video.isfinite().all()
    assert (video - sample()[0]).abs().max() > 0.01
    whole, _ = sample(guided_in_part(end=1.0), negative=tiny.conditioning(2))
    assert torch.equal(whole, sample(cfg=3.0, negative=tiny.conditioning(2))[0])


def test_a_prompt_that_joins_late_remembers_what_came_before():
    """After a prefix the negative is first met in a noisy step, long after the clean passes."""
    whole, trace = sample(guided_in_part(), negative=tiny.conditioning(2))
    prefix = {"samples": whole[:, :, :6].clone()}
    rest, joined = sample(guided_in_part(), negative=tiny.conditioning(2), prefix=prefix)
    torch.testing.assert_close(rest, whole, rtol=0, atol=1e-5)
    assert joined.rows == trace.rows
    assert joined.chunks[-1].history == trace.chunks[-1].history


def test_guidance_with_a_prompt_of_its_own_is_remembered():
    model = PerpNeg.execute(tiny.remembering(), tiny.conditioning(4), 1.0)[0]
    video, trace = sample(model, cfg=3.0, negative=tiny.conditioning(2))
    assert trace.rows == ("positive 0", "negative 0", "other 0")
    assert video.isfinite().all()


def custom(guider, frames=12):
    sampler = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)[0]
    latent = {"samples": torch.zeros(1, 16, frames, 4, 4)}
    noise = RandomNoise.execute(1)[0]
    return SamplerCustomAdvanced.execute(noise, guider, sampler, SIGMAS, latent)[0]["samples"]


def test_a_guider_of_three_prompts_is_remembered():
    guider = Guider_PerpNeg(tiny.remembering())
    guider.set_conds(*(tiny.conditioning(seed) for seed in (1, 2, 4)))
    guider.set_cfg(3.0, 1.0)
    assert custom(guider).isfinite().all()


class Exchanging(comfy.samplers.CFGGuider):
    """Another prompt from one chunk on."""

    from_chunk = 2

    def predict_noise(self, x, timestep, *args, **kwargs):
        self.chunk += timestep.max() == 1
        if self.chunk == self.from_chunk:
            self.conds["positive"] = self.conds["negative"]
        return super().predict_noise(x, timestep, *args, **kwargs)

    def run(self, words):
        self.chunk = -1
        self.set_conds(tiny.conditioning(1), tiny.conditioning(words))
        return custom(self)


def test_words_may_change_between_two_chunks():
    plain = comfy.samplers.CFGGuider(tiny.remembering())
    plain.set_conds(tiny.conditioning(1), tiny.conditioning(2))
    expected = custom(plain)
    changed = Exchanging(tiny.remembering()).run(words=2)
    assert torch.equal(changed[:, :, :6], expected[:, :, :6])
    assert (changed[:, :, 6:] - expected[:, :, 6:]).abs().max() > 0.01
    assert torch.equal(Exchanging(tiny.remembering()).run(words=1), expected)
