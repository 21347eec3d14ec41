"""The node that shows what a batch has begun, to choose from."""

import torch
from comfy_api.latest import io, ui

from ..relax_memory.host.film.auditions import contact_sheet
from ..relax_memory.host.notice import speaking
from .memory import CATEGORY


class RelaxForcingContactSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingContactSheet",
            display_name="Relax Forcing Contact Sheet",
            category=CATEGORY,
            description="Shows a few pictures of each video of a batch, with its number and seed, "
            "to choose the one that goes on: set its number as sample of Relax Forcing Resume.",
            search_aliases=["audition", "preview", "compare", "grid", "seeds", "choose"],
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Latent.Input(
                    "samples",
                    tooltip="A batch of short videos, or a list of them made with several seeds.",
                ),
                io.Vae.Input(
                    "vae",
                    tooltip="The Wan 2.1 VAE; a small fast one of the TAEHV kind (lighttaew2_1) is "
                    "enough to choose by.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    tooltip="One picture of all: a row for each video, from its first moment to "
                    "its last."
                )
            ],
        )

    @classmethod
    @speaking
    def execute(cls, samples, vae) -> io.NodeOutput:
        sheet = contact_sheet(vae[0], samples)
        image = torch.from_numpy(sheet).float().div(255)[None]
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
