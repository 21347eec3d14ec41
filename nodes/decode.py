"""The node that turns latents into a video file."""

from comfy_api.latest import io, ui

from ..relax_memory.film.mp4 import check_fps
from ..relax_memory.grid import WAN
from ..relax_memory.host.film.cuts import chapters_of, pieces_of
from ..relax_memory.host.film.decode import check_decodable
from ..relax_memory.host.film.made import made_videos, times_remade
from ..relax_memory.host.film.naming import fill_in
from ..relax_memory.host.film.output import (
    check_known_name,
    check_name,
    open_video,
    saved_result,
    workflow_metadata,
)
from ..relax_memory.host.film.whole import video_seconds, write_videos
from ..relax_memory.host.notice import note, speaking, tell_made
from .memory import CATEGORY

FPS = io.Float.Input(
    "fps",
    default=WAN.fps,
    min=1.0,
    max=240.0,
    step=0.001,
    tooltip="Pictures per second of the video. Wan 2.1 moves at a natural speed at 16; more plays "
    "it faster.",
)
FILENAME_PREFIX = io.String.Input(
    "filename_prefix",
    default="video/RelaxForcing",
    tooltip="Folder and name of the video in ComfyUI's output folder. A number is added, so no "
    "video is overwritten. While it is being written its name ends in .partial.mp4.",
)


ONE_OF_MANY = "All are in the output folder; without Nodes 2.0 the first is shown"


class RelaxForcingDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingDecode",
            display_name="Relax Forcing Decode",
            category=CATEGORY,
            description="Turns latents into a video file, a few frames at a time: a video of any "
            "length needs no more memory than a short one. The pictures are those of VAE Decode.",
            search_aliases=["vae decode", "save video", "long video", "mp4", "out of memory"],
            is_output_node=True,
            inputs=[
                io.Latent.Input("samples", tooltip="The video that the sampler made.", lazy=True),
                io.Vae.Input(
                    "vae",
                    tooltip="The Wan 2.1 VAE, or a small fast one of the TAEHV kind "
                    "(lighttaew2_1) for a quick look at lower quality.",
                ),
                FPS,
                FILENAME_PREFIX,
            ],
            outputs=[
                io.Video.Output(
                    is_output_list=True,
                    tooltip="The finished file, one for each video of a batch. Upscale, "
                    "interpolate or save it with any node that takes a video.",
                )
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool:
        check_known_name(filename_prefix, cls.hidden)
        return True

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> int:
        return times_remade(cls.hidden)

    @classmethod
    def check_lazy_status(cls, filename_prefix, samples=None, **inputs) -> list[str]:
        """A name that another node gives is known only now; nothing is sampled for a bad one."""
        check_name(fill_in(filename_prefix, cls.hidden))
        return ["samples"] if samples is None else []

    @classmethod
    @speaking
    def execute(cls, samples, vae, fps, filename_prefix) -> io.NodeOutput:
        check_fps(fps)
        latents = samples["samples"]
        name = fill_in(filename_prefix, cls.hidden)
        check_decodable(vae, latents)
        pieces, chapters = pieces_of(samples), chapters_of(samples, fps)
        batch, _, frames, height, width = latents.shape
        scale = vae.spacial_compression_decode()

        def open_writer():
            return open_video(
                name,
                fps=fps,
                width=width * scale,
                height=height * scale,
                metadata=workflow_metadata(cls.hidden),
                chapters=chapters,
            )

        files = write_videos(vae, latents, open_writer, fps=fps, pieces=pieces)
        videos = made_videos(files, cls.hidden)
        if batch > 1:
            note(ONE_OF_MANY)
        tell_made(video_seconds(frames, fps), videos=batch)
        return io.NodeOutput(
            videos,
            ui=ui.PreviewVideo([saved_result(file) for file in files]),
        )
