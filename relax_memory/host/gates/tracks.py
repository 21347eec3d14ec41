"""Tracks of Wan Move, found in the workflow that is being executed.

The host mixes what a track moves into the picture itself, in positive's and in negative's one
tensor, so that at most strengths nothing in a conditioning tells it from a start image.
"""

from comfy_api.latest import io

from .workflow import nodes_before

TRACKS = "WanMoveTrackToVideo"


def check_no_tracks(hidden: io.HiddenHolder | None) -> None:
    """Raise ValueError where a prompt of the executed node comes through a node of tracks."""
    for node in nodes_before(hidden):
        moves = "tracks" in node.inputs and node.inputs.get("strength") != 0
        if node.kind == TRACKS and moves:
            raise ValueError(
                f"the prompt comes through Wan Move Track To Video (node {node.key}), whose tracks "
                "a Wan 2.1 text-to-video model cannot follow: use Wan Image To Video, or set the "
                "strength of the tracks to 0."
            )
