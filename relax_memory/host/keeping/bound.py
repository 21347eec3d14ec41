"""How much room finished videos may take: a setting of the host's dialog, in the file it keeps.

Read from the file, because what cleans up knows no request, and a host without a browser has the
file as well.
"""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import folder_paths

SETTING = "RelaxForcing.FinishedGB"  # web/js/settings.js offers it
USUAL_GB = 4

logger = logging.getLogger(__name__)


def most_bytes() -> int:
    """What finished videos may take together; where users differ, the most that one allows."""
    return int(max(_told(), default=USUAL_GB) * 2**30)


def _told() -> Iterator[float]:
    for path in Path(folder_paths.get_user_directory()).glob("*/comfy.settings.json"):
        try:
            told = json.loads(path.read_bytes())
        except (OSError, ValueError):
            logger.warning("%s cannot be read: its %s is not used.", path, SETTING)
            continue
        value = told.get(SETTING) if isinstance(told, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
            yield value
        elif value is not None:
            logger.warning(
                "%s is %r in %s, but a number of 0 or more is needed: it is not used.",
                *(SETTING, value, path),
            )
