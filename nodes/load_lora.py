"""LoRAs for causal Wan models, under any names that people have."""

from comfy_api.latest import io

from ..relax_memory.host.loading.lora import load_lora, lora_names
from ..relax_memory.host.notice import speaking, tell
from .memory import CATEGORY


class RelaxForcingLoadLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingLoadLora",
            display_name="Relax Forcing Load LoRA",
            category=CATEGORY,
            description="Puts a LoRA on a Wan 2.1 model: those that LongLive and MemFlow are "
            "completed with, straight from their authors' .pt files, and any other LoRA for Wan.",
            search_aliases=["longlive", "memflow", "lora", "peft", "lora loader"],
            inputs=[
                io.Model.Input("model", tooltip="The model, before its memory node."),
                io.Combo.Input(
                    "lora_name",
                    options=lora_names(),
                    tooltip="The LoRA. Put the file into ComfyUI/models/loras and refresh; .pt "
                    "files are listed too.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.01,
                    tooltip="How strongly the LoRA changes the video. LoRAs that complete a "
                    "checkpoint, as that of LongLive, want 1.0.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="MODEL",
                    tooltip="The model with the LoRA, for more LoRAs, a memory node or a sampler.",
                )
            ],
        )

    @classmethod
    @speaking
    def execute(cls, model, lora_name, strength) -> io.NodeOutput:
        patched, words = load_lora(model, lora_name, strength)
        tell(words)
        return io.NodeOutput(patched)
