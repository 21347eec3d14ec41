"""Which pictures a sampler shows: those that the user chose, else the host's fast ones."""

from argparse import Namespace

import comfy.options
import latent_preview
from comfy.cli_args import parser
from comfy.model_patcher import ModelPatcher
from comfy_execution.utils import get_executing_context
from server import PromptServer


def previewer(model: ModelPatcher) -> latent_preview.LatentPreviewer | None:
    """The host's previewer; where it has none and nobody chose that, the one for all models.

    Previewers that other nodes put in its place are the host's for this purpose.
    """
    latent_format = model.model.latent_format
    chosen = latent_preview.get_previewer(model.load_device, latent_format)
    if chosen is not None or latent_format.latent_rgb_factors is None or _none_is_chosen():
        return chosen
    return latent_preview.Latent2RGBPreviewer(
        latent_format.latent_rgb_factors,
        latent_format.latent_rgb_factors_bias,
        latent_format.latent_rgb_factors_reshape,
    )


def _none_is_chosen() -> bool:
    """By the setting of the browser that queued, or where the server was started."""
    return _of_the_queue() == "none" or _given_at_start()


def _of_the_queue() -> str | None:
    where, server = get_executing_context(), getattr(PromptServer, "instance", None)
    queue = getattr(server, "prompt_queue", None)
    if where is None or queue is None:
        return None
    running, _ = queue.get_current_queue_volatile()
    settings = [extra for _, prompt_id, _, extra, *_ in running if prompt_id == where.prompt_id]
    return settings[0].get("preview_method") if settings else None


def _given_at_start() -> bool:
    """Whether --preview-method was given; the host's default says none as well."""
    if not comfy.options.args_parsing:
        return False
    given, _ = parser.parse_known_args(namespace=Namespace(preview_method=None))
    return given.preview_method is not None
