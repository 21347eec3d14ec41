"""What stands between percent signs in a file name: dates, and values of other nodes.

The host's front end fills these in for the savers that it knows by their class, hence not for ours.
What it would leave as it is stays so here; sizes and the parts of the time are the host's own.
"""

import re
from collections.abc import Iterator
from datetime import datetime

from comfy_api.latest import io

TOKEN = re.compile("%([^%]+)%")
DATE = "date:"
DATE_PART = re.compile("yyyy|yy|MM?|dd?|hh?|mm?|ss?")
NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
NAME_PROPERTY = "Node name for S&R"


def fill_in(filename_prefix: str, hidden: io.HiddenHolder | None) -> str:
    """A name with its dates, `%date:yyyy-MM-dd%`, and its values, `%Node.widget%`, filled in.

    A node is meant by its name for this purpose, its class or its title; of several the first.
    """
    prompt = (hidden and hidden.prompt) or {}
    workflow = ((hidden and hidden.extra_pnginfo) or {}).get("workflow") or {}
    now = datetime.now()

    def value(token: re.Match) -> str:
        words = token[1]
        if words.startswith(DATE):
            return _date(words.removeprefix(DATE), now)
        node, dot, widget = words.rpartition(".")
        for found in _values(node, widget, prompt, workflow) if dot else ():
            return NOT_IN_NAMES.sub("_", _text(found))
        return token[0]

    return TOKEN.sub(value, filename_prefix)


def _date(pattern: str, now: datetime) -> str:
    parts = {"M": now.month, "d": now.day, "h": now.hour, "m": now.minute, "s": now.second}

    def part(found: re.Match) -> str:
        letters = found[0]
        if letters[0] == "y":
            return f"{now.year:04}"[-len(letters) :]
        return str(parts[letters[0]]).zfill(len(letters))

    return DATE_PART.sub(part, pattern)


def _values(name: str, widget: str, prompt: dict, workflow: dict) -> Iterator[object]:
    """What the widget holds in each node of that name, best names first."""
    nodes = _workflow_nodes(workflow)
    named = {i: node.get("properties", {}).get(NAME_PROPERTY) for i, node in nodes.items()}
    given = [
        (named.get(i.split(":")[-1], node.get("class_type")), node) for i, node in prompt.items()
    ]
    titled = [(node.get("_meta", {}).get("title"), node) for node in prompt.values()]
    for _, node in (pair for pair in given + titled if pair[0] == name):
        value = node.get("inputs", {}).get(widget)
        for _ in prompt:  # a widget that another node gives
            if isinstance(value, list):
                value = prompt.get(str(value[0]), {}).get("inputs", {}).get("value")
        if value is not None and not isinstance(value, list):
            yield value
    for node in nodes.values():  # the front end's own, which it leaves out of the prompt
        if node.get("type") == "PrimitiveNode" and node.get("title") == name and widget == "value":
            yield from node.get("widgets_values", [])[:1]


def _workflow_nodes(workflow: dict) -> dict[str, dict]:
    """All nodes by their number, those in subgraphs too; numbers of the outer graph come first."""
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    graphs = [*reversed(subgraphs), workflow]
    return {str(node.get("id")): node for graph in graphs for node in graph.get("nodes", [])}


def _text(value: object) -> str:
    """A value as a browser writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
