"""The node that shows what a video looked back at."""

import torch
from comfy_api.latest import io, ui

from ..relax_memory.host.notice import speaking
from ..relax_memory.picture.timeline import draw_timeline
from .memory import CATEGORY


class RelaxForcingTimeline(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingTimeline",
            display_name="Relax Forcing Timeline",
            category=CATEGORY,
            description="Draws what the video looked back at: which past moments each chunk read, "
            "which it could have read, and how long each chunk took. It does not change the video.",
            search_aliases=["memory", "trace", "plot", "history", "sink", "tail"],
            is_output_node=True,
            inputs=[
                io.Custom("RELAX_TRACE").Input(
                    "trace",
                    tooltip="The trace of Relax Forcing Sampler. Reading it leaves the video as it "
                    "is.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    tooltip="The picture, 2000 pixels wide however long the video is. Keep it with "
                    "Save Image."
                ),
            ],
        )

    @classmethod
    @speaking
    def execute(cls, trace) -> io.NodeOutput:
        image = torch.from_numpy(draw_timeline(trace)).float().div(255)[None]
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
