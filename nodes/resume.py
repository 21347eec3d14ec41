"""The node that brings saved rollouts back."""

from functools import partial

from comfy_api.latest import io

from ..relax_memory.grid import WAN
from ..relax_memory.host.film.cuts import Take, latent_of
from ..relax_memory.host.film.whole import video_seconds
from ..relax_memory.host.keeping.autosave import archive_folder, close_left_behind
from ..relax_memory.host.keeping.listing import ROUTE, saved_labels
from ..relax_memory.host.notice import speaking, tell
from ..relax_memory.saved.archive import find_rollout
from ..relax_memory.saved.rollout import FIRST_SAMPLE, FPS
from .memory import CATEGORY

REFRESH_MILLISECONDS = 5000


class RelaxForcingResume(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingResume",
            display_name="Relax Forcing Resume",
            category=CATEGORY,
            description="Gives the part of a video that autosave has kept, to decode what is there "
            "or to go on from it. To go on with unchanged settings you do not need this node: "
            "queue the same workflow again.",
            search_aliases=["autosave", "continue", "recover", "crash", "extend", "load latent"],
            inputs=[
                io.Combo.Input(
                    "rollout",
                    options=saved_labels(),
                    remote=io.RemoteOptions(
                        route=ROUTE,
                        refresh_button=True,
                        control_after_refresh="first",
                        refresh=REFRESH_MILLISECONDS,
                    ),
                    tooltip="The saved video, newest first: when it was begun, how many seconds "
                    "of it are there, how its prompt begins, its size and its chunks. Takes stand "
                    "under the video that they are taken from. Refresh chooses the first.",
                ),
                io.Float.Input(
                    "until_seconds",
                    default=0.0,
                    min=0.0,
                    max=1e6,
                    step=0.1,
                    optional=True,
                    tooltip="Take the video up to here only, to go on from there with other words, "
                    "another seed or other settings. Goes to the nearest end of a chunk, and the "
                    "node says where that is. A second is one of Relax Forcing Stream's fps, and "
                    "of 16 frames where Relax Forcing Sampler made it. 0: all that is there.",
                ),
                io.Int.Input(
                    "sample",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="Which video of a batch goes on alone, counted from 1. With the same "
                    "seed it goes on as it would have in the batch. A larger batch_size makes "
                    "others of its beginning, with the noise of the next numbers. 0: all of them.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    tooltip="Finished chunks. Connect them to prefix of Relax Forcing Sampler "
                    "to go on from there, or to a decoder to see them."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, rollout=None) -> bool:
        """Instead of the host's check, which refuses a rollout that has grown since it was chosen;
        None where another node gives the name."""
        return rollout is None or bool(find_rollout(archive_folder(), rollout))

    @classmethod
    def fingerprint_inputs(cls, rollout, until_seconds=0.0, sample=0) -> list[str]:
        return [path.name for path in find_rollout(archive_folder(), rollout).files]

    @classmethod
    @speaking
    def execute(cls, rollout, until_seconds=0.0, sample=0) -> io.NodeOutput:
        saved = find_rollout(archive_folder(), rollout)
        close_left_behind(saved)
        fps = saved.told(FPS, WAN.fps)
        until = partial(_frame, until_seconds, fps=fps) if until_seconds else None
        latents, pieces, shots = saved.film(until)
        said = [saved.label]
        if until:
            said.append(f"until {video_seconds(latents.shape[2], fps):.2f} s")
        samples = latents.shape[0]
        if not 0 <= sample <= samples:
            raise ValueError(
                f'sample is {sample}, but "{saved.name}" has {samples}: use 1 to {samples}, or 0 '
                "for all."
            )
        if sample:
            latents = latents[sample - 1 : sample]
            said.append(f"sample {sample} of {samples}")
        tell("  ".join(said))
        take = Take(
            saved.name,
            saved.told(FIRST_SAMPLE, 0) + max(sample - 1, 0),
            saved.told("frames_per_chunk", 0),
            saved.told("seed", -1),
        )
        return io.NodeOutput(latent_of(latents, pieces, take, shots))


def _frame(until_seconds: float, frames: int, *, fps: float) -> int:
    """The latent frames of so many seconds, of a video of `frames`."""
    seconds = video_seconds(frames, fps)
    if not 0 < until_seconds <= seconds + 0.05:  # the list tells tenths
        raise ValueError(
            f"until_seconds is {until_seconds:g}, but {seconds:.2f} s of this video are saved: use "
            "0 for all of it, or a second between."
        )
    return WAN.latent_frames(max(round(until_seconds * fps), 1))
