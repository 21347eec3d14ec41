"""The node that lists what is saved and says what stays."""

import time

from comfy_api.latest import io, ui

from ..relax_memory.host.keeping.autosave import archive_folder
from ..relax_memory.host.keeping.listing import ALL_ROUTE, MARKS, all_labels, mark, overview
from ..relax_memory.host.notice import speaking, tell
from ..relax_memory.saved.archive import find_rollout
from .memory import CATEGORY

LIST = "list"


class RelaxForcingSaved(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RelaxForcingSaved",
            display_name="Relax Forcing Saved Videos",
            category=CATEGORY,
            description="Lists the videos that autosave has kept, with the room that they take, "
            "and says which of them stay. The video files in your output folder are others: "
            "nothing is done to them.",
            search_aliases=[
                "autosave",
                "delete",
                "clean up",
                "disk",
                "keep",
                "pin",
                "housekeeping",
            ],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "action",
                    options=[LIST, *MARKS],
                    default=LIST,
                    tooltip="list: only look. keep: never delete it. forget: take it off the list "
                    "of Relax Forcing Resume and delete it first when room is needed. bring back: "
                    "neither kept nor forgotten any more.",
                ),
                io.Combo.Input(
                    "rollout",
                    options=all_labels(),
                    remote=io.RemoteOptions(route=ALL_ROUTE, refresh_button=True),
                    tooltip="The saved video that is kept, forgotten or brought back; list does "
                    "not look at it. Look here before you queue: refresh chooses the first.",
                ),
            ],
            outputs=[
                io.String.Output(
                    tooltip="A line for each saved video, newest first, takes under the video that "
                    "they are taken from: when it was begun, its length, first words, size, "
                    "chunks, room on disk, and whether it is kept or forgotten."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, action=None, rollout=None) -> bool:
        """Instead of the host's check, which refuses a rollout that has grown since it was chosen;
        None where another node gives the value."""
        if action not in (None, LIST, *MARKS):
            raise ValueError(f"action is {action}: use {', '.join((LIST, *MARKS))}.")
        if action in (None, LIST) or rollout is None:
            return True
        return bool(find_rollout(archive_folder(), rollout))

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> float:
        return time.time()  # others save and delete

    @classmethod
    @speaking
    def execute(cls, action, rollout) -> io.NodeOutput:
        lines = overview() if action == LIST else [mark(rollout, action), "", *all_labels()]
        text = "\n".join(lines)
        tell(text)
        return io.NodeOutput(text, ui=ui.PreviewText(text))
