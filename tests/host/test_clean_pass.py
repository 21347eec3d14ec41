"""A chunk that is remembered by its last step, beside other nodes and as a checkpoint wants it."""

import comfy.samplers
import pytest
import tiny
import torch
from comfy_extras.nodes_custom_sampler import CFGOverride
from families import rcm
from loading import load, saved
from runs import sample, sample_custom

NEVER = {"clean_pass": "never"}


def test_a_checkpoint_without_clean_passes_is_run_so(model_folder):
    name = "Causal_rCM_Wan2.1_T2V_1.3B_480p_c3-3_noisy_ctx.pt"
    model = load(saved(model_folder, rcm(), name))
    as_made = sample(model=model, steps=0)
    assert torch.equal(as_made, sample(model=model, steps=0, **NEVER))
    assert not torch.equal(as_made, sample(model=model, steps=0, clean_pass="always"))
    asked = {"width": 64, "height": 32, "batch_size": 1, "model": model, "length": 957}
    text, _ = tiny.node("RelaxForcingPlan", frames_per_chunk=0, **asked)
    assert "A chunk takes 4 passes through the model: 320 in all." in text


def test_it_is_said_where_the_checkpoint_was_made_otherwise(model_folder, caplog):
    model = load(saved(model_folder, rcm(), "Causal_rCM_Wan2.1_T2V_1.3B_480p_c3-3.pt"))
    sample(model=model, steps=0, **NEVER)
    assert "was not made for clean_pass never instead of always." in caplog.text
    caplog.clear()
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=0, **NEVER)
    sample_custom(model=model, sampler=sampler)
    assert "clean_pass never instead of always" in caplog.text
    caplog.clear()
    sample(model=model, steps=0)
    assert "clean_pass" not in caplog.text


def test_a_prefix_is_remembered_by_a_clean_pass_and_said(caplog):
    prefix = {"samples": sample()[:, :, :3]}
    sample(prefix=prefix, **NEVER)
    assert "The prefix is remembered by a clean pass all the same" in caplog.text


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="clean_pass is 'sometimes': use one of as the checkpoint"):
        sample(clean_pass="sometimes")


def mixing(model, calls):
    """With a node that evaluates the model once more where predictions are mixed."""

    def mix(args):
        calls.append(1)
        model, conds, x = args["model"], args["cond"], args["input"]
        comfy.samplers.calc_cond_batch(model, [conds], x, args["sigma"], args["model_options"])
        return args["denoised"]

    model = model.clone()
    model.set_model_sampler_post_cfg_function(mix)
    return model


def test_where_predictions_are_mixed_a_pass_of_its_own_remembers():
    calls, prompts = [], {"negative": tiny.conditioning(2), "cfg": 3.0}
    mixed = sample(model=mixing(tiny.remembering(), calls), **prompts, **NEVER)
    assert len(calls) == 4
    assert torch.equal(mixed, sample(**prompts, **NEVER))


def test_a_prompt_that_joins_late_remembers_the_last_steps(tmp_path, monkeypatch):
    """Begun without the negative, which then takes part in the first steps of each chunk."""
    monkeypatch.setattr("folder_paths.output_directory", str(tmp_path))
    guided = CFGOverride.execute(tiny.remembering(), 3.0, 0.0, 0.5)[0]
    inputs = {"model": guided, "negative": tiny.conditioning(2), "steps": 4, "length": 45} | NEVER
    whole = sample(**inputs)
    assert (whole - sample(steps=4, length=45, **NEVER)).abs().max() > 0.01
    sample(**inputs | {"autosave": True, "length": 21})
    assert torch.equal(sample(**inputs | {"autosave": True}), whole)


class JoiningInTheLastStep(comfy.samplers.CFGGuider):
    """A negative that is first evaluated in the last step of the second chunk."""

    calls = 0

    def predict_noise(self, x, timestep, *args, **kwargs):
        self.calls += 1
        self.cfg = 3.0 if self.calls == 4 else 1.0
        return super().predict_noise(x, timestep, *args, **kwargs)


def test_a_prompt_that_joins_in_a_step_that_is_remembered_is_refused():
    def run(clean_pass):
        guider = JoiningInTheLastStep(tiny.remembering())
        guider.set_conds(tiny.conditioning(1), tiny.conditioning(2))
        select = {"frames_per_chunk": 3, "clean_pass": clean_pass}
        (sampler,) = tiny.node("RelaxForcingSamplerSelect", **select)
        return sample_custom(
            {"samples": torch.zeros(1, 16, 9, 4, 4)}, guider=guider, sampler=sampler
        )

    with pytest.raises(RuntimeError, match="negative .* last step of chunk 2.*clean_pass to alw"):
        run("never")
    assert run("always").isfinite().all()
