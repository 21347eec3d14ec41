"""A look ahead: what a video will cost and remember, without sampling."""

import torch
from comfy_api.latest import io, ui

from ..relax_memory.grid import WAN
from ..relax_memory.host.gates.numbers import checked_numbers
from ..relax_memory.host.notice import speaking, tell
from ..relax_memory.host.reached import settings_of_sampler
from ..relax_memory.host.room.forecast import forecast
from .memory import CATEGORY
from .sampler import CLEAN_PASS_INPUT, FRAMES_PER_CHUNK, check_widgets


class RelaxForcingPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingPlan",
            display_name="Relax Forcing Plan",
            category=CATEGORY,
            description="Tells before sampling how many chunks a video takes, which moments of the "
            "past each can look back at, how long that took in saved runs, and how much memory it "
            "needs in each setting.",
            search_aliases=["memory estimate", "vram", "dry run"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model with its memory node."),
                io.Int.Input(
                    "width",
                    default=832,
                    min=WAN.multiple,
                    max=8192,
                    step=WAN.multiple,
                    tooltip="Width of the picture in pixels. Smaller is faster and takes less "
                    "memory; the checkpoints are made for 832x480.",
                ),
                io.Int.Input(
                    "height",
                    default=480,
                    min=WAN.multiple,
                    max=8192,
                    step=WAN.multiple,
                    tooltip="Height of the picture in pixels, a multiple of 16 like the width.",
                ),
                io.Int.Input(
                    "length",
                    default=957,
                    min=1,
                    max=1000001,
                    step=WAN.video_frames,
                    tooltip="Length of the video in frames: seconds x 16 + 1 at 16 fps. 81 is 5 "
                    "seconds, 477 is 30, 957 is 60, 9597 is 10 minutes.",
                ),
                FRAMES_PER_CHUNK,
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many videos at once; each has its own memory.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=100,
                    optional=True,
                    advanced=True,
                    tooltip="Denoising steps for each chunk. 0: as the checkpoint was made, or 4.",
                ),
                CLEAN_PASS_INPUT,
                io.Boolean.Input(
                    "from_sampler",
                    default=False,
                    optional=True,
                    tooltip="Take size, length, frames per chunk, batch, steps, cfg, "
                    "clean_pass and fps from the one Relax Forcing Sampler or Stream that this "
                    "model reaches, instead of from here.",
                ),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="A prompt with shots, from Relax Forcing Prompt Schedule or Shot: the "
                    "plan then lists its shots and scenes, and what they cost.",
                ),
            ],
            outputs=[
                io.String.Output(tooltip="The plan in words; show it with a preview node."),
                io.Image.Output(tooltip="What each chunk can look back at, as a picture."),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None) -> bool:
        return check_widgets(width, height)

    @classmethod
    @speaking
    def execute(cls, model, from_sampler=False, **settings) -> io.NodeOutput:
        if from_sampler:
            settings |= settings_of_sampler(cls.hidden)
        text, picture = forecast(model, **checked_numbers(settings))
        tell(text)
        image = torch.from_numpy(picture).float().div(255)[None]
        return io.NodeOutput(text, image, ui=ui.PreviewText(text))
