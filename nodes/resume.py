"""The node that brings saved rollouts back."""

from comfy_api.latest import io

from ..relax_memory.host.film.cuts import latent_of
from ..relax_memory.host.keeping.autosave import archive_folder, close_left_behind
from ..relax_memory.host.keeping.listing import ROUTE, saved_labels
from ..relax_memory.host.notice import speaking, tell
from ..relax_memory.saved.archive import find_rollout
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
                    "of it are there, how its prompt begins, its size and its chunks. Refresh "
                    "chooses the newest.",
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
        tell(saved.label)
        return io.NodeOutput(latent_of(*saved.film()))
