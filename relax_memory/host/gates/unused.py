"""Patches of a MODEL that no Wan 2.1 model calls: the node that adds them works for nothing.

They may stand in the model, or in the options of a single call that another node makes.
"""

from collections.abc import Mapping

from .words import listed

PATCHES = ("attn1_patch", "attn2_patch", "double_block")  # those that Wan 2.1 calls


def unused_patches(transformer_options: Mapping[str, dict]) -> set[str]:
    """Patches that the host puts into other kinds of models only."""
    patches = {name for name, calls in transformer_options.get("patches", {}).items() if calls}
    replaced = transformer_options.get("patches_replace", {})
    unused = patches - set(PATCHES)
    unused |= {f"{name} replacement" for name in replaced if name != "dit" and replaced[name]}
    blocks = {block[0] for block in replaced.get("dit", {})} - {"double_block"}
    return unused | {f"{block} replacement" for block in blocks}


def never_called(unused: set[str]) -> list[str]:
    """What there is to say of such patches."""
    if not unused:
        return []
    return [f"model has {listed(unused)}, which a Wan 2.1 model never calls: it takes no part."]
