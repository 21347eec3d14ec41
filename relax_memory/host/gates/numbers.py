"""Numbers that another node gives: the host checks kinds and ends of those that are typed only."""

import math
from collections.abc import Mapping
from typing import Any

from ...film.mp4 import check_fps

WHOLE = ("width", "height", "length", "seed", "steps", "frames_per_chunk", "batch_size")
MOST = {"length": 1000001, "width": 8192, "height": 8192}  # as the widgets have it


def checked_numbers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with whole numbers where a node has made 21.0 of 21.

    Raises:
        ValueError: a part of one, or more than a video can have.
    """
    checked = dict(settings)
    for name in WHOLE:
        value = checked.get(name)
        if isinstance(value, float):
            if not value.is_integer():
                raise ValueError(
                    f"{name} is {value:g}, but a whole number is needed: round it before this node."
                )
            checked[name] = int(value)
    for name, most in MOST.items():
        if checked.get(name, 0) > most:
            raise ValueError(f"{name} is {checked[name]}: use at most {most}.")
    if not math.isfinite(checked.get("cfg", 1.0)):
        raise ValueError(f"cfg is {checked['cfg']}: use 0 to 100.")
    if "fps" in checked:
        check_fps(checked["fps"])
    return checked
