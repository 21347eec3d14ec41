"""The first words of a prompt, found in the workflow that is being executed.

They are for people's eyes: nothing depends on them.
"""

from collections.abc import Iterator

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from ..direction.beginnings import beginning
from ..direction.grammar import parse
from ..direction.script import ScriptError

SCHEDULE = "RelaxForcingPromptSchedule"
TEXTS = (
    *("before", "text", "prompt", "positive_prompt"),  # the shots before a shot come first
    *("t5xxl", "string", "string_a", "value"),
)


def first_words(hidden: io.HiddenHolder | None, name: str = "positive") -> str:
    """How the text begins that reaches the input `name` of the executed node; "" for none."""
    where, prompt = get_executing_context(), hidden and hidden.prompt
    if where is None or not isinstance(prompt, dict):
        return ""
    start = prompt.get(where.node_id, {}).get("inputs", {}).get(name)
    return next(filter(None, map(beginning, _texts(prompt, start, name))), "")


def _texts(prompt: dict, start: object, name: str) -> Iterator[str]:
    """Texts that reach a link, nearest first.

    A node with an input `name`, such as a ControlNet, hands on what comes in there and no other.
    """
    waiting, seen = [start], set()
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, str):
            yield value
        if not isinstance(value, list) or not value or str(value[0]) in seen:
            continue
        seen.add(str(value[0]))
        node = prompt.get(str(value[0]), {})
        inputs = node.get("inputs", {})
        if name in inputs:
            waiting[:0] = [inputs[name]]
        else:
            links = [given for given in inputs.values() if isinstance(given, list)]
            texts = [inputs[text] for text in TEXTS if text in inputs]
            if node.get("class_type") == SCHEDULE:
                texts = [_first_shot(text) for text in texts]
            waiting[:0] = texts + links


def _first_shot(text: object) -> object:
    """The words of the first shot of a script; what is no script stays as it is."""
    if not isinstance(text, str):
        return text
    try:
        return parse(text).cues[0].text
    except ScriptError:
        return text
