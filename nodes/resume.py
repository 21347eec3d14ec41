"""The node that brings saved rollouts back."""

from comfy_api.latest import io

from ..relax_memory.host.keeping.autosave import archive_folder, close_left_behind
from ..relax_memory.host.notice import speaking
from ..relax_memory.saved.archive import find_rollout, saved_rollouts
from .memory import CATEGORY

NOTHING_SAVED = "nothing is saved yet"


class RelaxForcingResume(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        saved = [rollout.label for rollout in saved_rollouts(archive_folder())]
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
                    options=saved or [NOTHING_SAVED],
                    tooltip="The saved video, newest first: when it was begun, its size, and how "
                    "much of it is there. Press R in the browser to see the newest.",
                )
            ],
            outputs=[
                io.Latent.Output(
                    tooltip="All finished chunks. Connect them to prefix of Relax Forcing Sampler "
                    "to go on from there, or to a decoder to see them."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, rollout=None) -> bool | str:
        """Instead of the host's check, which refuses a rollout that has grown since it was chosen;
        None where another node gives the name."""
        try:
            return rollout is None or bool(find_rollout(archive_folder(), rollout))
        except ValueError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, rollout) -> list[str]:
        return [path.name for path in find_rollout(archive_folder(), rollout).files]

    @classmethod
    @speaking
    def execute(cls, rollout) -> io.NodeOutput:
        saved = find_rollout(archive_folder(), rollout)
        close_left_behind(saved)
        return io.NodeOutput({"samples": saved.latents()})
