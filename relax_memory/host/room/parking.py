"""Which scenes of a film wait in host memory while they are away.

Their keys and values need not be made again then, one pass for each chunk. All others keep only
their latents. It is decided before sampling, and changes no bits. Knows no session.
"""

from collections import Counter

from ...storyboard import Storyboard
from .budget import ONE_MEMORY, Budget

SHARE = 0.5  # of free host memory; the rest is for pictures, and for what the host moves there


def waiting(budget: Budget, storyboard: Storyboard) -> dict[int, int]:
    """Bytes of each scene that waits; those that spare most passes come first."""
    if budget.device.type in ONE_MEMORY:
        used = budget.device_bytes + budget.host_bytes + budget.weights_bytes
        free_bytes = SHARE * (budget.device_free_bytes - used)
    else:
        free_bytes = SHARE * (budget.host_free_bytes - budget.host_bytes)
    spared: Counter[int] = Counter()
    for chunk in storyboard:
        passes = len(storyboard.recalled(chunk)) - len(storyboard.recalled(chunk, parked=True))
        if passes:
            spared[chunk.scene] += passes
    found = {}
    for scene, _ in spared.most_common():
        size = budget.scenes[scene].bytes
        if size <= free_bytes:
            found[scene] = size
            free_bytes -= size
    return found
