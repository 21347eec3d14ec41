"""Shots that a node leaves behind, found in the workflow that is being executed.

Two nodes of the host take the first prompt of a second conditioning into that of the first, and
what comes out carries nothing by which its other shots could be missed.
"""

from comfy_api.latest import io
from comfy_execution.graph_utils import is_link

from ...direction.grammar import parse
from ...direction.script import ScriptError
from .workflow import Node, node_of, nodes_before

NAMES = {
    "ConditioningConcat": "Conditioning (Concat)",
    "ConditioningAverage": "Conditioning (Average)",
}
SECOND = "conditioning_from"


def check_no_lost_shots(hidden: io.HiddenHolder | None) -> None:
    """Raise ValueError where a prompt of the executed node is made of the first shot of several."""
    prompt: dict = (hidden and hidden.prompt) or {}
    for node in nodes_before(hidden):
        given = node.inputs.get(SECOND)
        if node.kind in NAMES and isinstance(given, list) and _has_shots(prompt, given[0]):
            raise ValueError(
                f"{SECOND} of {NAMES[node.kind]} (node {node.key}) carries shots, of which it "
                "takes the first alone: make the prompt of each shot with a node of its own, and "
                "connect those to Relax Forcing Shot."
            )


def _has_shots(prompt: dict, key: str) -> bool:
    """Whether a node gives several; not where its text comes from another node."""
    node = node_of(prompt, key) if key in prompt else Node(key, "", {})
    text = node.inputs.get("text")
    if node.kind == "RelaxForcingPromptSchedule" and isinstance(text, str):
        try:
            return len(parse(text).cues) > 1
        except ScriptError:  # read otherwise with its own transition, so there are marks in it
            return True
    return node.kind == "RelaxForcingShot" and is_link(node.inputs.get("before"))
