"""Where the words of a CONDITIONING come from: the node that wrote them, and what encodes more.

It travels beside the words and counts in no fingerprint, as nothing made so far depends on it.
"""

from dataclasses import dataclass

from comfy.sd import CLIP

from ...direction.script import Transition
from ..directed import SOURCE, changes


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Prompt Schedule node: its inputs, its id in the graph, and the first prompt it gave."""

    clip: CLIP
    text: str
    transition: Transition
    blend_seconds: float
    node_id: str
    first: list


def with_source(conditioning: list, **told: object) -> list:
    """The CONDITIONING that tells its source, copied; `told` are the fields of `Source`."""
    source = Source(first=conditioning, **told)  # type: ignore[arg-type]
    (embedding, options, *rest), *others = conditioning
    return [[embedding, options | {SOURCE: source}, *rest], *others]


def source_of(conditioning: list | None) -> Source | None:
    """The source of a conditioning that is as its node gave it, or None."""
    found = [options[SOURCE] for _, options, *_ in conditioning or () if SOURCE in options]
    if len(found) != 1 or any(changes(conditioning or [], found[0].first)):
        return None
    return found[0]
