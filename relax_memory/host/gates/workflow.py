"""The workflow that is being executed, as far as conditionings are handed on in it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import nodes
from comfy_api.latest import io
from comfy_execution.graph_utils import is_link
from comfy_execution.utils import get_executing_context

ON_THE_WAY = ("CONDITIONING", "*")


class Node(NamedTuple):
    """A node of the workflow, by its number there."""

    key: str
    kind: str
    inputs: dict[str, Any]


def nodes_before(hidden: io.HiddenHolder | None) -> Iterator[Node]:
    """Nodes whose conditioning reaches the executed one, directly or through what hands it on."""
    where, prompt = get_executing_context(), hidden and hidden.prompt
    if where is None or not isinstance(prompt, dict):
        return
    waiting, seen = [where.node_id], set()
    while waiting:
        key = waiting.pop()
        if key in seen or key not in prompt:
            continue
        seen.add(key)
        node = node_of(prompt, key)
        yield node
        for given in node.inputs.values():
            if is_link(given) and _gives(prompt, *given) in ON_THE_WAY:
                waiting.append(given[0])


def node_of(prompt: dict, key: str) -> Node:
    return Node(key, prompt[key]["class_type"], prompt[key]["inputs"])


def _gives(prompt: dict, key: str, slot: int) -> str:
    """What the host says that a node gives in a slot."""
    name = prompt.get(key, {}).get("class_type")
    kinds = getattr(nodes.NODE_CLASS_MAPPINGS.get(name), "RETURN_TYPES", ())
    return kinds[slot] if slot < len(kinds) else "*"
