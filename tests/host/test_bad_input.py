"""Wrong input gets a sentence that names it, what it is and what to do, before the model runs."""

import comfy.model_base
import comfy.sd
import comfy.supported_models
import other_models
import pytest
import tiny
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_custom_sampler import (
    BasicGuider,
    RandomNoise,
    SamplerCustomAdvanced,
)

SIGMAS = torch.tensor([1.0, 0.5, 0.0])
ONCE_BROKEN = torch.full((1, 8, 4096), 0.5)
ONCE_BROKEN[0, 3, 7] = torch.nan
SMALL_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "num_head_channels": 32,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "transformer_depth": [0, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 0, 1, 1],
    "context_dim": 2048,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}


@pytest.fixture(autouse=True)
def model_stays_unused():
    """The small model; the test fails if anything is computed with it."""
    calls = []
    network = tiny.model().model.diffusion_model
    hook = network.register_forward_pre_hook(lambda *_: calls.append(1))
    yield
    hook.remove()
    assert not calls


def sample(**inputs):
    defaults = {"model": tiny.remembering(), "positive": tiny.conditioning(1), "seed": 0}
    defaults |= {"width": 32, "height": 32, "length": 21, "steps": 2, "cfg": 1.0}
    defaults |= {"frames_per_chunk": 3, "batch_size": 1, "autosave": False}
    return tiny.node("RelaxForcingSampler", **defaults | inputs)


def sample_custom(latent, **inputs):
    """Through the host's SamplerCustomAdvanced, with our sampler."""
    inputs = {"positive": tiny.conditioning(1), "sigmas": SIGMAS} | inputs
    model = inputs.get("model") or tiny.remembering()
    guider = BasicGuider.execute(model, inputs["positive"])[0]
    sampler = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)[0]
    noise = RandomNoise.execute(1)[0]
    return SamplerCustomAdvanced.execute(noise, guider, sampler, inputs["sigmas"], latent)


def latent(*shape):
    return {"samples": torch.zeros(shape)}


def with_options(**options):
    return [[tiny.conditioning(1)[0][0], options]]


def unet() -> ModelPatcher:
    """A model of the SDXL kind with few channels."""
    config = comfy.supported_models.SDXL(dict(SMALL_UNET))
    config.set_inference_dtype(torch.float32, None)
    return ModelPatcher(comfy.model_base.SDXL(config), torch.device("cpu"), torch.device("cpu"))


def from_shapes(weights: dict) -> ModelPatcher:
    """A model of the host, without values that matter."""
    weights = {name: torch.zeros(weight.shape) for name, weight in weights.items()}
    return comfy.sd.load_diffusion_model_state_dict(weights)


OTHER_MODELS = {
    "sdxl": (unet, "is a UNetModel"),
    "vace": (lambda: from_shapes(other_models.vace()), "is a VaceWanModel"),
    "i2v": (
        lambda: from_shapes(other_models.wan("i2v", in_dim=36)),
        "is a Wan i2v model with 36 input channels",
    ),
    "5B": (
        lambda: from_shapes(other_models.wan(in_dim=48, out_dim=48)),
        "is a Wan t2v model with 48 input channels",
    ),
}


@pytest.mark.parametrize("use", ["memory", "window", "sampler", "custom"])
@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_another_model(kind, use):
    make, words = OTHER_MODELS[kind]
    model = make()
    uses = {
        "memory": lambda: tiny.node("RelaxForcingMemory", model=model, **tiny.MEMORY),
        "window": lambda: tiny.node(
            "RelaxForcingWindowMemory", model=model, sink_frames=0, window_frames=18, rope="hybrid"
        ),
        "sampler": lambda: sample(model=model),
        "custom": lambda: sample_custom(
            latent(1, 16, 3, 4, 4),
            model=model,
            positive=with_options(pooled_output=torch.zeros(1, 1280)),
        ),
    }
    with pytest.raises(ValueError, match=f"model {words}.*: load a Self Forcing") as error:
        uses[use]()
    assert "Wan 2.1 text-to-video" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"reservoir_frames": 4},
            "reservoir_frames is 4, but 2 sink, 1 history and 1 tail .* need 5: raise",
        ),
        (
            {"history_frames": 5},
            "history_frames is 5 but history_candidates is 4: .* raise history_candidates or lower",
        ),
        ({"sink_frames": -1}, "sink_frames is -1: use 0 or more"),
        ({"redundancy_weight": float("nan")}, "redundancy_weight is nan: use a finite number"),
        ({"rope": "relative"}, 'rope is "relative": use "hybrid" or "absolute"'),
        ({"reservoir_device": "disk"}, 'reservoir_device is "disk": use "auto"'),
        ({"reservoir_dtype": "int4"}, 'reservoir_dtype is "int4": use "model"'),
    ],
)
def test_memory_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny.remembering(**settings)


@pytest.mark.parametrize("run", [sample, lambda **i: sample_custom(latent(1, 16, 9, 4, 4), **i)])
def test_a_reservoir_that_cannot_hold_memory_and_chunk(run):
    with pytest.raises(ValueError, match="with a chunk of 3 need 7: raise reservoir_frames"):
        run(model=tiny.remembering(reservoir_frames=6))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"width": 840}, "width is 840, but Wan needs a multiple of 16: use 832"),
        ({"height": 500}, "height is 500, but Wan needs a multiple of 16: use 496"),
        ({"height": 8}, "height is 8, but Wan needs a multiple of 16: use 16"),
        ({"length": 0}, "length is 0: use 1 or more"),
        ({"steps": -1}, "steps is -1: use 1 or more"),
        ({"frames_per_chunk": -1}, "frames_per_chunk is -1: use 1 or more"),
        ({"batch_size": 0}, "batch_size is 0: use 1 or more"),
        ({"cfg": 3.0}, "cfg is 3, but no negative conditioning is connected: connect one or set"),
    ],
)
def test_sampler_settings(inputs, message):
    with pytest.raises(ValueError, match=message):
        sample(**inputs)


@pytest.mark.parametrize(
    ("shape", "inputs", "message"),
    [
        ((1, 48, 2, 4, 4), {}, r"prefix has shape \[48, 2, 4, 4\] .* \[16, 'frames', 4, 4\]"),
        ((1, 4, 2, 4, 4), {}, r"prefix has shape \[4, 2, 4, 4\] .*: encode it with the Wan 2.1"),
        ((1, 16, 4, 4), {}, r"prefix has shape \[16, 4, 4\] .* encode it with the Wan 2.1 VAE"),
        ((1, 16, 2, 4, 6), {}, r"prefix has shape \[16, 2, 4, 6\] .* needed for 32x32: encode"),
        ((2, 16, 2, 4, 4), {"batch_size": 3}, "prefix has 2 samples, but batch_size is 3: give 1"),
        ((1, 16, 6, 4, 4), {}, "length is 21 .* prefix alone fills with 21: .* raise it"),
        ((1, 16, 9, 4, 4), {}, "length is 21 .* prefix alone fills with 33: .* raise it"),
    ],
)
def test_a_prefix_that_does_not_fit(shape, inputs, message):
    with pytest.raises(ValueError, match=message):
        sample(prefix=latent(*shape), **inputs)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_prefix(value):
    prefix = latent(1, 16, 2, 4, 4)
    prefix["samples"][0, 5, 1, 2, 3] = value
    with pytest.raises(ValueError, match="prefix holds NaN or infinite values: make"):
        sample(prefix=prefix)


BAD_CONDITIONING = {
    "nan": ([[ONCE_BROKEN, {}]], "holds NaN or infinite values: check the text encoder"),
    "late": (
        with_options(start_percent=0.2),
        "holds only for steps 0.2 to 1, .*: remove the start",
    ),
    "early": (with_options(end_percent=0.5), "holds only for steps 0 to 0.5, .*: remove the start"),
    "empty": ([], "is empty: connect a prompt"),
    "sdxl": (
        [[torch.zeros(1, 77, 2048), {}]],
        "is 2048 wide, but this model needs 4096: encode the prompt with umt5",
    ),
}


@pytest.mark.parametrize("kind", BAD_CONDITIONING)
@pytest.mark.parametrize("name", ["positive", "negative"])
def test_bad_conditioning(name, kind):
    conditioning, words = BAD_CONDITIONING[kind]
    inputs = {"negative": tiny.conditioning(2), "cfg": 2.0} | {name: conditioning}
    with pytest.raises(ValueError, match=f"{name} conditioning {words}"):
        sample(**inputs)


@pytest.mark.parametrize("kind", BAD_CONDITIONING)
def test_bad_conditioning_of_a_custom_guider(kind):
    conditioning, words = BAD_CONDITIONING[kind]
    with pytest.raises(ValueError, match=f"positive conditioning {words}"):
        sample_custom(latent(1, 16, 9, 4, 4), positive=conditioning)


BAD_SIGMAS = {
    "not to 0": ([1.0, 0.9, 0.2], r"sigmas are \[1.0, 0.9, 0.2\], but they must descend and end"),
    "rising": ([0.5, 1.0, 0.0], r"sigmas are \[0.5, 1.0, 0.0\], but they must descend and end"),
    "alone": ([0.0], r"sigmas are \[0.0\], but they must descend and end in 0"),
    "nan": ([1.0, torch.nan, 0.0], r"sigmas are \[1.0, nan, 0.0\], but they must descend"),
}


@pytest.mark.parametrize("kind", BAD_SIGMAS)
@pytest.mark.parametrize("run", ["own", "custom"])
def test_bad_sigmas(run, kind):
    sigmas, message = BAD_SIGMAS[kind]
    with pytest.raises(ValueError, match=message):
        if run == "own":
            sample(sigmas=torch.tensor(sigmas))
        else:
            sample_custom(latent(1, 16, 9, 4, 4), sigmas=torch.tensor(sigmas))


@pytest.mark.parametrize("model", [tiny.model, tiny.remembering], ids=["plain", "with memory"])
def test_a_latent_that_is_not_a_video(model):
    """The host has made a video of one frame of an image latent when it comes to us."""
    with pytest.raises(ValueError, match=r"latent_image has shape \[1, 16, 32\], .* use an empty"):
        sample_custom(latent(1, 16, 32), model=model())


@pytest.mark.parametrize("channels", [4, 48])
def test_a_latent_of_another_model(channels):
    """Not an empty one: the host gives those the channels of the model."""
    full = {"samples": torch.ones(1, channels, 9, 4, 4)}
    with pytest.raises(
        ValueError, match=rf"latent_image has shape \[1, {channels}, 9, 4, 4\], .*16"
    ):
        sample_custom(full)


def test_a_noise_mask():
    masked = latent(1, 16, 9, 4, 4) | {"noise_mask": torch.ones(1, 1, 32, 32)}
    with pytest.raises(ValueError, match="latent_image has a noise mask, which chunked sampling"):
        sample_custom(masked)
