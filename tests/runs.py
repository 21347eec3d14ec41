"""Small runs of both ways of sampling, for tests of what goes in."""

import tiny
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, RandomNoise, SamplerCustomAdvanced

SIGMAS = torch.tensor([1.0, 0.5, 0.0])


def sample(**inputs):
    """Through our own sampler node: 6 latent frames of 32x32."""
    defaults = {"model": tiny.remembering(), "positive": tiny.conditioning(1), "seed": 0}
    defaults |= {"width": 32, "height": 32, "length": 21, "steps": 2, "cfg": 1.0}
    defaults |= {"frames_per_chunk": 3, "batch_size": 1, "autosave": False}
    return tiny.node("RelaxForcingSampler", **defaults | inputs)[0]["samples"]


def sample_custom(latent=None, **inputs):
    """Through the host's SamplerCustomAdvanced, with our sampler; `noise` is a NOISE."""
    inputs = {"positive": tiny.conditioning(1), "sigmas": SIGMAS} | inputs
    model = inputs.get("model") or tiny.remembering()
    guider = inputs.get("guider") or BasicGuider.execute(model, inputs["positive"])[0]
    sampler = inputs.get("sampler")
    sampler = sampler or tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)[0]
    noise = inputs.get("noise") or RandomNoise.execute(1)[0]
    latent = latent or {"samples": torch.zeros(1, 16, 6, 4, 4)}
    return SamplerCustomAdvanced.execute(noise, guider, sampler, inputs["sigmas"], latent)[0][
        "samples"
    ]


WAYS = {"own": sample, "custom": sample_custom}


def carrying(seed=1, **options):
    """A prompt whose entry carries these options."""
    return [[tiny.conditioning(seed)[0][0], options]]


def lora_of_one_layer(dim=256):
    layer = "diffusion_model.blocks.0.self_attn.k"
    generator = torch.Generator().manual_seed(4)
    return {
        f"{layer}.lora_up.weight": torch.randn(dim, 4, generator=generator) / 8,
        f"{layer}.lora_down.weight": torch.randn(4, dim, generator=generator) / 8,
    }
