"""Nodes that make the video."""

from comfy_api.latest import io

from ..relax_memory.grid import WAN
from ..relax_memory.host.film.cuts import latent_of
from ..relax_memory.host.film.whole import video_seconds
from ..relax_memory.host.first_words import first_words
from ..relax_memory.host.following import AS_MADE, CLEAN_PASS
from ..relax_memory.host.gates.conditioning import check_cfg
from ..relax_memory.host.gates.latent import check_size
from ..relax_memory.host.gates.lost_shots import check_no_lost_shots
from ..relax_memory.host.gates.tracks import check_no_tracks
from ..relax_memory.host.notice import speaking, tell_made
from ..relax_memory.host.request import make_request
from ..relax_memory.host.sampling.film import shots_of
from ..relax_memory.host.sampling.generate import generate
from ..relax_memory.host.sampling.sampler import MemorySampler
from ..relax_memory.host.steering.desk import Desk, times_steered
from .memory import CATEGORY

Trace = io.Custom("RELAX_TRACE")

FRAMES_PER_CHUNK = io.Int.Input(
    "frames_per_chunk",
    default=0,
    min=0,
    max=64,
    tooltip="Latent frames made together. 0: as the checkpoint was made, or 3. "
    "Chunk-wise models (Self Forcing, CausVid) are made for 3, frame-wise ones for 1.",
)
SIGMAS_FIRST = io.Sigmas.Input(
    "sigmas_first",
    optional=True,
    tooltip="Your own noise schedule for the first chunk, which has nothing to look back at. Some "
    "checkpoints of 1 or 2 steps want 4 there.",
)


CLEAN_PASS_INPUT = io.Combo.Input(
    "clean_pass",
    options=list(CLEAN_PASS),
    default=AS_MADE,
    optional=True,
    advanced=True,
    tooltip="Whether a finished chunk goes through the model once more to be remembered. never: "
    "its last step is remembered instead, which is noisier; that gives more motion and saves one "
    "pass of each chunk. A prefix is always remembered as it is.",
)


def sampling_inputs() -> tuple[list[io.Input], list[io.Input]]:
    """Required and optional inputs that every node which samples has, in the contract's order."""
    required = [
        io.Model.Input(
            "model",
            tooltip="A causal Wan 2.1 model, with or without a memory node. Without one, the "
            "paper's memory settings are used.",
        ),
        io.Conditioning.Input("positive", tooltip="What the video shows."),
        io.Int.Input(
            "width",
            default=832,
            min=WAN.multiple,
            max=8192,
            step=WAN.multiple,
            tooltip="Width of the picture in pixels. Smaller is faster and takes less memory; the "
            "checkpoints are made for 832x480.",
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
            tooltip="Length of the video in frames, the prefix included: seconds x 16 + 1 at 16 "
            "fps. 81 is 5 seconds, 477 is 30, 957 is 60, 9597 is 10 minutes. Longer costs time; "
            "beyond 40 seconds no more memory.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=io.ControlAfterGenerate.fixed,  # or no run would be found again
            tooltip="Another seed, another video. With the same seed a short video is the "
            "beginning of the long one.",
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=100,
            advanced=True,
            tooltip="Denoising steps for each chunk. 0: as the checkpoint was made, or 4.",
        ),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            advanced=True,
            tooltip="How strongly the negative prompt pushes. Causal checkpoints are made for 1.0, "
            "which is also twice as fast because the negative prompt is skipped.",
        ),
        FRAMES_PER_CHUNK,
        io.Int.Input(
            "batch_size",
            default=1,
            min=1,
            max=64,
            tooltip="How many videos to make at once. Each has its own memory.",
        ),
        io.Boolean.Input(
            "autosave",
            default=True,
            tooltip="Save every finished chunk to disk, in the output folder. After a crash or a "
            "cancelled run, queue the same workflow again and it continues where it stopped.",
        ),
    ]
    optional: list[io.Input] = [
        io.Conditioning.Input(
            "negative", optional=True, tooltip="What the video should not show; needs cfg above 1."
        ),
        io.Latent.Input(
            "prefix",
            optional=True,
            tooltip="The video continues from these latents and contains them: one frame for image "
            "to video, or a video to extend.",
        ),
        io.Sigmas.Input(
            "sigmas",
            optional=True,
            tooltip="Your own noise schedule instead of the one made from steps.",
        ),
    ]
    return required, optional


def check_widgets(width=None, height=None, cfg=None, negative=False) -> bool:
    """What can be judged before anything runs; None is what another node will give.

    Raises ValueError, which the browser shows with its sentence; one that is returned it hides.
    """
    unknown = WAN.multiple
    check_size(unknown if width is None else width, unknown if height is None else height, WAN)
    for name, value, most in (("width", width, 8192), ("height", height, 8192), ("cfg", cfg, 100)):
        if value is not None and not 0 <= value <= most:
            raise ValueError(f"{name} is {value:g}: use at most {most}, and not less than 0.")
    if negative is False and cfg is not None:
        check_cfg(cfg, negative=None)
    return True


class RelaxForcingSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        required, optional = sampling_inputs()
        return io.Schema(
            node_id="RelaxForcingSampler",
            display_name="Relax Forcing Sampler",
            category=CATEGORY,
            description="Makes a video of any length chunk by chunk. Every chunk takes the same "
            "time and memory, however long the video is.",
            search_aliases=["long video", "self forcing", "causal", "autoregressive", "infinite"],
            inputs=[*required, *optional, SIGMAS_FIRST, CLEAN_PASS_INPUT],
            outputs=[
                io.Latent.Output(tooltip="The whole video; decode it with the Wan 2.1 VAE."),
                Trace.Output(
                    display_name="trace",
                    tooltip="What every chunk looked back at, for Relax Forcing Timeline.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None, cfg=None, negative=False) -> bool:
        return check_widgets(width, height, cfg, negative)

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> int:
        return times_steered(cls.hidden)

    @classmethod
    @speaking
    def execute(cls, prefix=None, **inputs) -> io.NodeOutput:
        check_no_tracks(cls.hidden)
        check_no_lost_shots(cls.hidden)
        request = make_request(prefix=prefix, words=first_words(cls.hidden), **inputs)
        desk = Desk(request, cls.hidden)
        latents, trace = generate(request, desk=desk)
        request = desk.request
        seconds = video_seconds(request.latent_frames, request.fps)
        tell_made(seconds, videos=request.batch_size)
        film = request.storyboard.pieces, request.take, shots_of(request)
        return io.NodeOutput(latent_of(latents, *film), trace)


class RelaxForcingSamplerSelect(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingSamplerSelect",
            display_name="Relax Forcing Sampler Select",
            category=CATEGORY,
            description="The chunk-by-chunk sampler for SamplerCustomAdvanced. A memory node "
            "before the guider says what is remembered; without one the paper's settings are used. "
            "The first chunks are those of ComfyUI's Sampler AR Video.",
            search_aliases=["sampler ar video", "self forcing"],
            inputs=[FRAMES_PER_CHUNK, SIGMAS_FIRST, CLEAN_PASS_INPUT],
            outputs=[
                io.Sampler.Output(  # type: ignore[attr-defined]
                    tooltip="Connect it to SamplerCustomAdvanced, with the memory model in the "
                    "guider."
                )
            ],
        )

    @classmethod
    @speaking
    def execute(cls, frames_per_chunk, sigmas_first=None, clean_pass=AS_MADE) -> io.NodeOutput:
        return io.NodeOutput(MemorySampler(frames_per_chunk, sigmas_first, clean_pass))
