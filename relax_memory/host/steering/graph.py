"""The words of a node in the graph that is being executed, which finished files carry.

The host hands one prompt and one workflow to all nodes of a run, so what is written here is what
those after the sampler save. A node in a subgraph has an id of several parts, "12:6".
"""

from collections.abc import Iterator

from comfy_api.latest import io

TEXT = "text"


class Graph:
    """Prompt and workflow of a run, as its node got them; either may be missing."""

    def __init__(self, hidden: io.HiddenHolder | None) -> None:
        self._prompt = (hidden and hidden.prompt) or {}
        extra = (hidden and hidden.extra_pnginfo) or {}
        self._workflow = extra.get("workflow") or {}

    def refusal(self, node_id: str) -> str | None:
        """Why the words of a node cannot be written, if so."""
        if self._prompt and node_id not in self._prompt:
            return (
                f"node {node_id} is not in the graph but a copy that another node, such as a loop, "
                "makes of one, so new words cannot be written there: take Relax Forcing Prompt "
                "Schedule out of it."
            )
        text = self._prompt.get(node_id, {}).get("inputs", {}).get(TEXT, "")
        *around, node = self._path(node_id) or [{}]
        slots = [slot for slot in node.get("inputs") or () if slot.get("name") == TEXT]
        if not isinstance(text, str) or any(slot.get("link") is not None for slot in slots):
            return (
                f"text of node {node_id} comes from another node, so new words cannot be written "
                "there: type the text into Relax Forcing Prompt Schedule itself."
            )
        kinds = [other.get("type") for nodes in self._levels() for other in nodes]
        if any(kinds.count(subgraph.get("type")) > 1 for subgraph in around):
            return (
                f"node {node_id} is in a subgraph that is used more than once, and new words would "
                "hold for each of them: take Relax Forcing Prompt Schedule out of it."
            )
        return None

    def write(self, node_id: str, text: str) -> None:
        """Put new words in the place of those of a node."""
        if node_id in self._prompt:
            self._prompt[node_id]["inputs"][TEXT] = text
        for node in self._path(node_id)[-1:]:
            values = node.get("widgets_values")
            if isinstance(values, list) and values:
                values[0] = text
            elif isinstance(values, dict):
                values[TEXT] = text

    def _path(self, node_id: str) -> list[dict]:
        """The node in the workflow, behind those of the subgraphs that it is in; none, no node."""
        inside = {graph.get("id"): graph.get("nodes") or [] for graph in self._subgraphs()}
        nodes, path = self._workflow.get("nodes") or [], []
        for part in node_id.split(":"):
            found = next((node for node in nodes if str(node.get("id")) == part), None)
            if found is None:
                return []
            path.append(found)
            nodes = inside.get(found.get("type"), [])
        return path

    def _levels(self) -> Iterator[list[dict]]:
        yield self._workflow.get("nodes") or []
        for graph in self._subgraphs():
            yield graph.get("nodes") or []

    def _subgraphs(self) -> list[dict]:
        return (self._workflow.get("definitions") or {}).get("subgraphs") or []
