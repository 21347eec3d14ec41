"""What newer hosts have, used where it is there: looked up on the object, never by version.

No host that could be run has it; the tests put in stand-ins with the names and signatures that
released versions have.
"""

from contextlib import AbstractContextManager, nullcontext

import comfy.model_prefetch
import torch


def preferred(attention: torch.nn.Module) -> dict[str, object]:
    """What the host's attention function is to be told of the kernel that a layer's file names."""
    chosen = getattr(attention, "comfy_attention", None)
    return {} if chosen is None else {"preferred_attention": chosen}


def outliving() -> AbstractContextManager[object]:
    """Around what allocates for longer than a call of the model, or not the same in each.

    The host records the allocations of a call and replays them; others end the process.
    """
    return vars(comfy.model_prefetch).get("pause_malloc_graph", nullcontext)()
