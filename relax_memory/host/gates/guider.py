"""The gate of a run through a guider of the host: SamplerCustomAdvanced and its kind."""

import comfy.samplers
from torch import Tensor

from ..directed import without_direction
from ..model.attention import check_attention, check_supported
from ..model.family import grid_of, network_of
from .conditioning import check_conditioning
from .latent import check_latent
from .model import check_model, without_negative
from .sigmas import check_sigmas, first_level
from .start_image import in_model
from .words import say


def check_run(
    guider: comfy.samplers.CFGGuider,
    sigmas: Tensor,
    noise: Tensor,
    latent_image: Tensor | None,
    mask: Tensor | None,
) -> None:
    """Refuse what our own nodes refuse before the host is asked to sample, and say what is ignored.

    Raises:
        ValueError: input that cannot be sampled, by name, with its value and what is needed.
    """
    model = guider.model_patcher
    check_supported(model.get_model_object("diffusion_model"))
    network = network_of(model)
    check_attention(network, model.get_model_object)
    check_latent(noise, grid_of(model))
    notes = check_model(model)
    if type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise:
        notes += without_negative(guider.cfg, guider.model_options)
    if in_model(model) is not None:
        raise ValueError(
            "model carries a start image (AR Video I2V), which this sampler would drop: use Relax "
            "Forcing Sampler, which begins with it, or a model without it."
        )
    samples, _, frames, height, width = noise.shape
    for name, conds in guider.original_conds.items():
        entries = [(cond.get("cross_attn"), without_direction(cond)) for cond in conds]
        notes += check_conditioning(
            name,
            entries,
            text_dim=network.text_dim,
            samples=samples,
            size=(height, width),
            frames=frames,
        )
    if mask is not None:
        raise ValueError(
            "latent_image has a noise mask, which chunked sampling cannot follow: use a latent "
            "without one."
        )
    empty = latent_image is None or not latent_image.any()
    if empty and not noise.any():
        raise ValueError(
            "noise is empty and so is latent_image, so there is nothing to make a video of: "
            "connect Random Noise."
        )
    first = first_level(model.get_model_object("model_sampling")) if empty else None
    check_sigmas(sigmas, first=first)
    say(notes)
