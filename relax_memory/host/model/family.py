"""What the host knows of a model's family."""

from typing import cast

from comfy.latent_formats import LatentFormat
from comfy.ldm.wan.model import WanModel
from comfy.model_patcher import ModelPatcher

from ...grid import Grid


def network_of(model: ModelPatcher) -> WanModel:
    """The transformer of a model that has been checked to be a Wan 2.1."""
    return cast(WanModel, model.get_model_object("diffusion_model"))


def grid_of(model: ModelPatcher) -> Grid:
    """How the model's latents lie on a video."""
    form = cast(LatentFormat, model.get_model_object("latent_format"))
    return Grid(
        channels=form.latent_channels,
        pixels=form.spacial_downscale_ratio,
        video_frames=form.temporal_downscale_ratio,
    )
