"""A noise schedule of another model, or one with nothing to begin from, is refused in both ways."""

import comfy_extras.nodes_custom_sampler as host
import pytest
import tiny
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, ModelSamplingSD3
from runs import WAYS, sample, sample_custom


def scheduled(node="BasicScheduler", **settings):
    """Sigmas of a scheduler of the host."""
    if node == "BasicScheduler":
        settings = {"model": tiny.model(), "scheduler": "simple", "denoise": 1.0} | settings
    return getattr(host, node).execute(**settings)[0]


ABOVE = {
    "karras": lambda: scheduled("KarrasScheduler", steps=4, sigma_max=14.6, sigma_min=0.03, rho=7),
    "timesteps": lambda: torch.tensor([1000.0, 750.0, 500.0, 250.0, 0.0]),
    "polyexponential": lambda: scheduled(
        "PolyexponentialScheduler", steps=3, sigma_max=14.6, sigma_min=0.03, rho=1.0
    ),
    "a little": lambda: torch.tensor([1.1, 0.5, 0.0]),
    "infinite": lambda: torch.tensor([torch.inf, 0.5, 0.0]),
}
LATE = {
    "denoise 0.5": (lambda: scheduled(steps=4, denoise=0.5), 0.889),
    "the second half": (lambda: host.SplitSigmas.execute(scheduled(steps=4), 2)[1], 0.889),
    "ddim uniform": (lambda: scheduled(steps=4, scheduler="ddim_uniform"), 0.960),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ABOVE)
def test_levels_above_one(kind, way):
    words = "noise levels lie between 1 and 0: use Basic Scheduler .* divide timesteps by 1000"
    with pytest.raises(ValueError, match=f"sigmas are .*, but this model's {words}"):
        WAYS[way](sigmas=ABOVE[kind]())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", LATE)
def test_a_late_start_from_nothing(kind, way):
    make, level = LATE[kind]
    with pytest.raises(ValueError, match="sigmas begin at .* begins at 1 and there is no video to"):
        WAYS[way](sigmas=make())
    assert make()[0].item() == pytest.approx(level, abs=1e-3)


def test_a_late_start_from_latents_is_what_sampler_select_is_asked_for():
    """Video to video, as the host's own samplers do it: noise over the latents that are there."""
    given = {"samples": torch.randn(1, 16, 6, 4, 4)}
    sigmas = scheduled(steps=4, denoise=0.5)
    video = sample_custom(given, sigmas=sigmas)
    assert (video - sample_custom(sigmas=scheduled(steps=4))).abs().max() > 0.01
    other = {"samples": given["samples"] + 1}
    assert (video - sample_custom(other, sigmas=sigmas)).abs().max() > 0.01


@pytest.mark.parametrize("name", ["simple", "sgm_uniform", "beta", "normal", "kl_optimal"])
def test_schedules_of_the_host_that_begin_at_the_top(name):
    sigmas = scheduled(steps=4, scheduler=name)
    if sigmas[-1] == 0:
        assert sample(sigmas=sigmas).isfinite().all()


@pytest.mark.parametrize("way", WAYS)
def test_a_table_of_levels(way):
    with pytest.raises(ValueError, match=r"sigmas has shape \[1, 3\], but one row"):
        WAYS[way](sigmas=torch.tensor([[1.0, 0.5, 0.0]]))


def test_no_noise_and_no_latents():
    noise = host.DisableNoise.execute()[0]
    with pytest.raises(ValueError, match="noise is empty and so is latent_image, .*: connect Ran"):
        sample_custom(noise=noise)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sampling", ["eps", "v_prediction", "lcm"])
def test_a_model_that_samples_as_no_flow(sampling, way):
    model = ModelSamplingDiscrete().patch(tiny.remembering(), sampling, zsnr=False)[0]
    with pytest.raises(ValueError, match="model samples as .*, but a Wan 2.1 model is a flow"):
        WAYS[way](model=model)


def test_a_shift_that_leaves_no_levels():
    model = ModelSamplingSD3().patch(tiny.remembering(), shift=0.0)[0]
    with pytest.raises(ValueError, match="the model's own sigmas for 2 steps are"):
        sample(model=model)
