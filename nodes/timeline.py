"""The node that shows what a video looked back at."""

import torch
from comfy_api.latest import io, ui

from ..relax_memory.host.notice import speaking
from ..relax_memory.picture.timeline import draw_timeline, on_dark
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
        picture = draw_timeline(trace)
        dark = _image(on_dark(picture))  # white would glare on the canvas
        return io.NodeOutput(_image(picture), ui=ui.PreviewImage(dark, cls=cls))


def _image(picture):
    return torch.from_numpy(picture).float().div(255)[None]
