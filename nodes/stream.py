"""Sampling and decoding as one node: a video file that grows while it is made."""

from comfy_api.latest import io, ui

from ..relax_memory.host.film.cuts import latent_of
from ..relax_memory.host.film.live import live_video
from ..relax_memory.host.film.made import made_videos, times_remade
from ..relax_memory.host.film.naming import fill_in
from ..relax_memory.host.film.output import (
    check_known_name,
    open_video,
    saved_result,
    workflow_metadata,
)
from ..relax_memory.host.film.whole import video_seconds
from ..relax_memory.host.first_words import first_words
from ..relax_memory.host.gates.lost_shots import check_no_lost_shots
from ..relax_memory.host.gates.tracks import check_no_tracks
from ..relax_memory.host.notice import note, speaking, tell_made
from ..relax_memory.host.request import make_request
from ..relax_memory.host.sampling.film import chapters_of, shots_of
from ..relax_memory.host.sampling.generate import generate
from ..relax_memory.host.steering.desk import Desk, times_steered
from .decode import FILENAME_PREFIX, FPS, ONE_OF_MANY
from .memory import CATEGORY
from .sampler import CLEAN_PASS_INPUT, SIGMAS_FIRST, Trace, check_widgets, sampling_inputs


class RelaxForcingStream(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        required, optional = sampling_inputs()
        vae = io.Vae.Input(
            "vae", tooltip="The Wan 2.1 VAE, or a small fast one of the TAEHV kind (lighttaew2_1)."
        )
        return io.Schema(
            node_id="RelaxForcingStream",
            display_name="Relax Forcing Stream",
            category=CATEGORY,
            description="Makes a video of any length straight into a file. Every chunk is decoded "
            "and written as soon as it is finished, so you can watch the file while it grows, and "
            "a cancelled run leaves a video of all that was made.",
            search_aliases=["long video", "self forcing", "causal", "live", "infinite", "mp4"],
            is_output_node=True,
            inputs=[
                *required,
                *optional,
                vae,
                FPS,
                FILENAME_PREFIX,
                SIGMAS_FIRST,
                CLEAN_PASS_INPUT,
            ],
            outputs=[
                io.Video.Output(
                    is_output_list=True,
                    tooltip="The finished file, one for each video of a batch.",
                ),
                io.Latent.Output(tooltip="The whole video in latents, to extend or decode again."),
                Trace.Output(
                    display_name="trace",
                    tooltip="What every chunk looked back at, for Relax Forcing Timeline.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(  # what is not connected is not given, what is comes as None
        cls, filename_prefix=None, width=None, height=None, cfg=None, negative=False
    ) -> bool:
        check_known_name(filename_prefix, cls.hidden)
        return check_widgets(width, height, cfg, negative)

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> tuple[int, int]:
        return times_remade(cls.hidden), times_steered(cls.hidden)

    @classmethod
    @speaking
    def execute(cls, vae, filename_prefix, prefix=None, **inputs) -> io.NodeOutput:
        check_no_tracks(cls.hidden)
        check_no_lost_shots(cls.hidden)
        request = make_request(prefix=prefix, words=first_words(cls.hidden), **inputs)
        metadata = workflow_metadata(cls.hidden)
        name = fill_in(filename_prefix, cls.hidden)

        pieces, chapters = request.storyboard.pieces, chapters_of(request)

        def open_writer(width, height):
            return open_video(
                name,
                fps=request.fps,
                width=width,
                height=height,
                metadata=metadata,
                chapters=chapters,
            )

        with live_video(vae, request, open_writer, pieces) as live:
            desk = Desk(request, cls.hidden)
            latents, trace = generate(request, live=live, desk=desk)
            files = live.finish()
        request = desk.request
        videos = made_videos(files, cls.hidden)
        seconds = video_seconds(request.latent_frames, request.fps)
        if len(files) > 1:
            note(ONE_OF_MANY)
        tell_made(seconds, videos=len(files))
        return io.NodeOutput(
            videos,
            latent_of(latents, request.storyboard.pieces, request.take, shots_of(request)),
            trace,
            ui=ui.PreviewVideo([saved_result(file) for file in files]),
        )
