"""The graph that made a rollout, beside its chunks, so that it can be had back.

It is what the host tells a node of its prompt and workflow and decides nothing: without the file,
or when it is damaged, only the graph is missing.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from ..disk import unlink
from .atomic import read_checked, write_checked

GRAPH = "graph.json"
MOST_BYTES = 2**24  # some nodes keep pictures in the workflow

logger = logging.getLogger(__name__)


def write_graph(folder: Path, graph: Mapping[str, object]) -> None:
    """Let this be the graph; where it is empty, too large or no JSON there is none. Raises OSError.

    What JSON has no number for becomes null, so that browsers can read it.
    """
    try:
        text = json.dumps(graph)
        told = json.loads(text, parse_constant=lambda _: None)
    except (TypeError, ValueError, RecursionError) as error:
        logger.warning("The graph of %s is not kept: %s", folder.name, error)
        told = {}
    else:
        if len(text) > MOST_BYTES:
            logger.warning("The graph of %s is not kept: %d bytes", folder.name, len(text))
            told = {}
    if told == read_graph(folder):
        return
    if told:
        write_checked(folder / GRAPH, "graph", told)
    else:
        unlink(folder / GRAPH)


def read_graph(folder: Path) -> dict[str, object]:
    """What was written last; empty where there is none, or when it is damaged."""
    try:
        told = read_checked(folder / GRAPH, "graph")
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
