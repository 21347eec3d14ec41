"""Loader for causal Wan 2.1 models as people have them."""

from comfy_api.latest import io

from ..relax_memory.host.loading.checkpoint import (
    WEIGHT_DTYPES,
    load_checkpoint,
    model_names,
    model_path,
)
from ..relax_memory.host.loading.recipe import words
from ..relax_memory.host.loading.weights import CHECKPOINT_KEYS
from ..relax_memory.host.notice import speaking, tell
from ..relax_memory.recipes import AUTO, FAMILIES


class RelaxForcingLoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingLoadModel",
            display_name="Relax Forcing Load Model",
            category="Relax Forcing",
            description="Loads a causal Wan 2.1 text-to-video model (Self Forcing, CausVid, Causal "
            "Forcing), straight from the authors' .pt file or from a safetensors file.",
            search_aliases=["self forcing", "causvid", "causal forcing", "pt", "unet loader"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    tooltip="The model that draws the video. Put the file into "
                    "ComfyUI/models/diffusion_models and refresh; .pt files are listed too.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="How precisely the model is held. default keeps the full quality; the "
                    "fp8 kinds take half the memory and change the picture slightly, and fast is "
                    "quicker on GPUs that calculate in fp8.",
                ),
                io.Combo.Input(
                    "checkpoint_key",
                    options=list(CHECKPOINT_KEYS),
                    default="auto",
                    advanced=True,
                    tooltip="Which model to take from a training file that holds several. They "
                    "make slightly different videos. auto takes what the authors of its "
                    "family take, else generator_ema (averaged over the training), else generator, "
                    "else model, else the one model in the file.",
                ),
                io.Float.Input(
                    "shift",
                    default=5.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Higher gives more of the denoising to rough shapes and movement, "
                    "lower more to details. Causal Wan models were trained at 5, so change it only "
                    "to experiment.",
                ),
                io.Combo.Input(
                    "family",
                    options=list(FAMILIES),
                    default=AUTO,
                    optional=True,
                    tooltip="Which checkpoint this is, and so how it was made to be run: frames "
                    "per chunk, steps, and which model of the file is meant. auto goes by the name "
                    "of the file and says on the node what it took; many files look alike inside.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="MODEL",
                    tooltip="The model, for LoRAs, a Relax Forcing memory node or a sampler.",
                )
            ],
        )

    @classmethod
    @speaking
    def execute(cls, model_name, weight_dtype, checkpoint_key, shift, family=AUTO) -> io.NodeOutput:
        model = load_checkpoint(
            model_path(model_name),
            checkpoint_key=checkpoint_key,
            weight_dtype=weight_dtype,
            shift=shift,
            family=family,
            name=model_name,
        )
        tell(words(model))
        return io.NodeOutput(model)
