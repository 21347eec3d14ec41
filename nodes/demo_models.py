"""The bundled small models: everything a first video needs, without a download."""

from comfy_api.latest import io

from ..demo.bundle import MODEL, SHIFT, load_clip, load_vae
from ..relax_memory.host.loading.checkpoint import load_checkpoint
from ..relax_memory.host.notice import speaking
from .memory import CATEGORY


class RelaxForcingDemoModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingDemoModels",
            display_name="Relax Forcing Demo Models",
            category=CATEGORY,
            description="Small models that come with Relax Forcing. They know one thing: coloured "
            "shapes that move over a patterned field, 64x64 pixels. Use them to try a workflow "
            "within minutes on any computer, then put real models in their place.",
            search_aliases=["test", "example", "tiny", "try", "cpu", "loader"],
            inputs=[],
            outputs=[
                io.Model.Output(
                    display_name="MODEL",
                    tooltip="A causal Wan 2.1 model of the small world. Make its videos 64x64.",
                ),
                io.Clip.Output(
                    display_name="CLIP",
                    tooltip="Understands texts such as 'a red circle and a blue square bouncing "
                    "over a striped green field, fast'. Other words are left out.",
                ),
                io.Vae.Output(
                    display_name="VAE", tooltip="Turns the latents of this model into pictures."
                ),
            ],
        )

    @classmethod
    @speaking
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(load_checkpoint(str(MODEL), shift=SHIFT), load_clip(), load_vae())
