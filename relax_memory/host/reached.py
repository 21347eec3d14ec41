"""What the sampler is set to that a MODEL reaches, found in the workflow that is being executed."""

from collections.abc import Iterator

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

SAMPLERS = ("RelaxForcingSampler", "RelaxForcingStream")
TAKEN = (
    *("width", "height", "length", "frames_per_chunk", "batch_size", "steps", "cfg"),
    "clean_pass",
    "fps",
)


def settings_of_sampler(hidden: io.HiddenHolder | None) -> dict[str, float | str]:
    """Size, length, chunk, batch, steps, cfg, clean pass and fps of the one sampler.

    Raises:
        ValueError: the model reaches none, or several, or a value comes from a node that works it
            out.
    """
    where, prompt = get_executing_context(), hidden and hidden.prompt
    if where is None or not isinstance(prompt, dict) or where.node_id not in prompt:
        raise ValueError(
            "from_sampler is on, but nothing is known of the workflow: turn it off, and set the "
            "values here."
        )
    found = sorted(set(_samplers(prompt, prompt[where.node_id]["inputs"]["model"])))
    if len(found) != 1:
        several = f"{len(found)} samplers (nodes {', '.join(found)})"
        raise ValueError(
            f"from_sampler is on, but model reaches {several if found else 'no sampler'}: connect "
            "it to one Relax Forcing Sampler or Stream, or turn it off and set the values here."
        )
    inputs = prompt[found[0]]["inputs"]
    return {name: _value(prompt, inputs[name], name, found[0]) for name in TAKEN if name in inputs}


def _samplers(prompt: dict, source: object) -> Iterator[str]:
    """Samplers that a link leads to, directly or through what hands a model on."""
    waiting, seen = [source], []
    while waiting:
        link = waiting.pop()
        seen.append(link)
        for key, node in prompt.items():
            if node.get("inputs", {}).get("model") != link:
                continue
            if node["class_type"] in SAMPLERS:
                yield key
            elif [key, 0] not in seen:
                waiting.append([key, 0])


def _value(prompt: dict, value: object, name: str, sampler: str) -> float | str:
    """A widget, or what a node of one value gives it."""
    for _ in prompt:
        if isinstance(value, list):
            value = prompt.get(str(value[0]), {}).get("inputs", {}).get("value", value)
    if isinstance(value, list):
        raise ValueError(
            f"from_sampler is on, but {name} of the sampler (node {sampler}) is worked out by "
            f"another node: turn it off, and connect that node to {name} here too."
        )
    assert isinstance(value, int | float | str)
    return value
