"""How results are written: a changed figure is a changed line. Needs nothing of the host."""

import json


def one_line_a_figure(value: object, margin: str = "\n") -> str:
    """JSON in which every entry of an object has its own line, however long a list it is."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    inner = margin + " "
    entries = (f"{json.dumps(key)}: {one_line_a_figure(value[key], inner)}" for key in value)
    return "{" + inner + f",{inner}".join(entries) + margin + "}"
