"""What the host knows of a model's family."""

from comfy.model_patcher import ModelPatcher

from ...grid import Grid


def grid_of(model: ModelPatcher) -> Grid:
    """How the model's latents lie on a video."""
    form = model.get_model_object("latent_format")
    return Grid(
        channels=form.latent_channels,
        pixels=form.spacial_downscale_ratio,
        video_frames=form.temporal_downscale_ratio,
    )
