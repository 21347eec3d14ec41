"""Tracks of Wan Move, found in the workflow that is being executed.

The host mixes what a track moves into the picture itself, in positive's and in negative's one
tensor, so that at most strengths nothing in a conditioning tells it from a start image.
"""

from collections.abc import Iterator

import nodes
from comfy_api.latest import io
from comfy_execution.graph_utils import is_link
from comfy_execution.utils import get_executing_context

TRACKS = "WanMoveTrackToVideo"
ON_THE_WAY = ("CONDITIONING", "*")


def check_no_tracks(hidden: io.HiddenHolder | None) -> None:
    """Raise ValueError where a prompt of the executed node comes through a node of tracks."""
    where, prompt = get_executing_context(), hidden and hidden.prompt
    if where is None or not isinstance(prompt, dict):
        return
    for key in _before(prompt, where.node_id):
        inputs = prompt[key]["inputs"]
        moves = "tracks" in inputs and inputs.get("strength") != 0
        if prompt[key]["class_type"] == TRACKS and moves:
            raise ValueError(
                f"the prompt comes through Wan Move Track To Video (node {key}), whose tracks a "
                "Wan 2.1 text-to-video model cannot follow: use Wan Image To Video, or set the "
                "strength of the tracks to 0."
            )


def _before(prompt: dict, node_id: str) -> Iterator[str]:
    """Nodes whose conditioning reaches a node, directly or through what hands it on."""
    waiting, seen = [node_id], set()
    while waiting:
        key = waiting.pop()
        if key in seen or key not in prompt:
            continue
        seen.add(key)
        yield key
        for given in prompt[key]["inputs"].values():
            if is_link(given) and _kind(prompt, *given) in ON_THE_WAY:
                waiting.append(given[0])


def _kind(prompt: dict, key: str, slot: int) -> str:
    """What the host says that a node gives in a slot."""
    name = prompt.get(key, {}).get("class_type")
    kinds = getattr(nodes.NODE_CLASS_MAPPINGS.get(name), "RETURN_TYPES", ())
    return kinds[slot] if slot < len(kinds) else "*"
