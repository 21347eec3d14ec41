"""Nodes that give a MODEL its memory."""

from dataclasses import replace

from comfy_api.latest import io

from ..relax_memory.host.following import trained_window
from ..relax_memory.host.model.attention import with_memory
from ..relax_memory.host.notice import note, speaking
from ..relax_memory.memory.storage import Storage
from ..relax_memory.policies import RelaxedMemory, WindowMemory

CATEGORY = "Relax Forcing"

MODEL = io.Model.Input("model", tooltip="A causal Wan 2.1 text-to-video model, LoRAs included.")
REMEMBERING = io.Model.Output(
    tooltip="The model with memory, for Relax Forcing Sampler. Other samplers run it as if it had "
    "none."
)
ROPE = io.Combo.Input(
    "rope",
    options=["hybrid", "absolute"],
    default="hybrid",
    advanced=True,
    tooltip="Where remembered frames appear to lie in time. hybrid: just before the new frames, "
    "which keeps any length stable. absolute: at their true distance, for comparison.",
)


class RelaxForcingMemory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingMemory",
            display_name="Relax Forcing Memory",
            category=CATEGORY,
            description="Lets a causal Wan 2.1 model make videos of any length: it looks back at a "
            "few chosen frames instead of all of them. The defaults are those of the paper.",
            search_aliases=["long video", "kv cache", "self forcing", "causal", "infinite"],
            inputs=[
                MODEL,
                io.Int.Input(
                    "sink_frames",
                    default=2,
                    min=0,
                    max=64,
                    tooltip="First frames of the video that are always remembered. They hold the "
                    "look of the scene together; more make it steadier and stiller. One frame here "
                    "is 4 frames of video.",
                ),
                io.Int.Input(
                    "history_frames",
                    default=1,
                    min=0,
                    max=64,
                    tooltip="Frames chosen from the middle of the past, anew for every chunk. They "
                    "carry how things move; 0 turns this off.",
                ),
                io.Int.Input(
                    "tail_frames",
                    default=1,
                    min=0,
                    max=64,
                    tooltip="Newest frames that are always remembered. They make one chunk run "
                    "smoothly into the next; more make motion calmer.",
                ),
                io.Int.Input(
                    "history_candidates",
                    default=4,
                    min=0,
                    max=64,
                    advanced=True,
                    tooltip="How many past moments are compared when the history is chosen. Not "
                    "fewer than history_frames.",
                ),
                io.Float.Input(
                    "redundancy_weight",
                    default=2.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How strongly the choice avoids moments that look like the newest "
                    "frames. Higher gives more motion, 0 only looks for likeness with the start.",
                ),
                io.Int.Input(
                    "reservoir_frames",
                    default=120,
                    min=2,
                    max=100000,
                    tooltip="How much of the past is kept to choose the history from, in frames "
                    "of 4 video frames. The moments compared lie in the newer half: with 120, "
                    "which are 30 seconds at 16 fps, they are 4 to 14.5 seconds old. It costs "
                    "memory, not speed.",
                ),
                ROPE,
                io.Combo.Input(
                    "reservoir_device",
                    options=["auto", "gpu", "cpu"],
                    default="auto",
                    advanced=True,
                    tooltip="Where remembered frames that are not in use are kept. cpu saves video "
                    "memory and gives the same video; auto decides by what is free.",
                ),
                io.Combo.Input(
                    "reservoir_dtype",
                    options=["model", "fp8"],
                    default="model",
                    advanced=True,
                    tooltip="Precision of remembered frames that may become history. fp8 halves "
                    "their memory and changes the video very slightly.",
                ),
            ],
            outputs=[REMEMBERING],
        )

    @classmethod
    @speaking
    def execute(cls, model, reservoir_device, reservoir_dtype, **settings) -> io.NodeOutput:
        storage = Storage(device=reservoir_device, dtype=reservoir_dtype)
        return io.NodeOutput(with_memory(model, RelaxedMemory(**settings), storage))


class RelaxForcingWindowMemory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingWindowMemory",
            display_name="Relax Forcing Window Memory",
            category=CATEGORY,
            description="The plain alternative, for comparison: the model looks back at a sliding "
            "window of the newest frames, and at the first ones if you like.",
            search_aliases=["sliding window", "dense", "streaming"],
            inputs=[
                MODEL,
                io.Int.Input(
                    "sink_frames",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="First frames of the video that are always remembered, on top of the "
                    "window. They keep long videos from drifting away.",
                ),
                io.Int.Input(
                    "window_frames",
                    default=18,
                    min=0,
                    max=100000,
                    tooltip="Newest frames that are remembered, each 4 frames of video; 18 and a "
                    "chunk of 3 is what Self Forcing was trained on. 0 remembers everything, and "
                    "gets slower and larger as the video grows.",
                ),
                ROPE,
                io.Boolean.Input(
                    "as_trained",
                    default=False,
                    optional=True,
                    tooltip="Take what the checkpoint was trained to look back at instead of "
                    "sink_frames and window_frames, to compare its own memory with another. The "
                    "node says what that is, and what it leaves out.",
                ),
            ],
            outputs=[REMEMBERING],
        )

    @classmethod
    @speaking
    def execute(cls, model, as_trained=False, **settings) -> io.NodeOutput:
        policy = WindowMemory(**settings)
        if as_trained:
            trained, words = trained_window(model)
            note(words)
            policy = replace(trained, rope=policy.rope) if trained else policy
        return io.NodeOutput(with_memory(model, policy))


MEMORY_NODES: list[type[io.ComfyNode]] = [
    RelaxForcingMemory,
    RelaxForcingWindowMemory,
]
