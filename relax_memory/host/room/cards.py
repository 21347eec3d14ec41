"""What cards of usual sizes are good for, before there is one: the budget of a run, on each.

A card is its memory alone; how fast it is nobody knows here.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import torch

from ...memory.costs import ModelShape, costs
from ...memory.storage import Storage
from ...picture.words import gigabytes
from ...plan import Plan
from ...policies import Policy
from .budget import ONE_MEMORY, Budget, settled

SIZES = (6, 8, 12, 16, 24)  # in GiB, as cards are sold
CONTEXT_BYTES = 400 << 20  # what the driver takes of a card


def on_card(budget: Budget, card_bytes: int, storage: Storage) -> Budget:
    """The same rollout on an otherwise empty NVIDIA card, what is remembered kept as `storage`.

    A chunk in work takes there what it takes on the device of `budget`.
    """
    card, free_bytes = torch.device("cuda"), card_bytes - CONTEXT_BYTES
    return settled(replace(budget, storage=storage, device=card, device_free_bytes=free_bytes))


def compare_cards(budget: Budget, storage: Storage) -> Iterator[str]:
    """What would happen on cards of each of the `SIZES`, in lines; alike ones share one."""
    cards = ((size, in_words(on_card(budget, size << 30, storage))) for size in SIZES)
    for words, alike in groupby(cards, key=lambda card: card[1]):
        *others, last = (f"{size}" for size, _ in alike)
        yield f"{', '.join(others)}{' and ' * bool(others)}{last} GB: {words}"


def in_words(budget: Budget) -> str:
    """Where weights and what is remembered lie, or what is too small."""
    alone = budget.device.type not in ONE_MEMORY
    needed_bytes = budget.device_bytes + (0 if alone else budget.host_bytes)
    if needed_bytes > budget.device_free_bytes:
        return f"too small, as {gigabytes(needed_bytes)} are needed beside the weights"
    if budget.resident_bytes == budget.weights_bytes:
        words = "all weights fit"
    elif not budget.resident_bytes:
        words = "no weights fit, the host streams them in every pass"
    else:
        words = f"{gigabytes(budget.resident_bytes)} of {gigabytes(budget.weights_bytes)} of the "
        words += "weights fit, the host streams the rest in every pass"
    if not (alone and budget.host_bytes):
        return f"{words}, and all that is remembered too"
    more = ", which is more than is free there" * (budget.host_bytes > budget.host_free_bytes)
    return f"{words}; {gigabytes(budget.host_bytes)} are remembered in host memory{more}"


def longest_reservoir(
    policy: Policy,
    shape: ModelShape,
    storage: Storage,
    free_bytes: int,
    *,
    plan: Plan,
    rows: int = 1,
) -> int:
    """About the most `reservoir_frames` of which so many bytes hold all that has to be stored.

    Found by halving, though one more frame may store less where it falls in step with the chunks:
    what is found does fit. At most the frames of `plan`; 0: not even the fewest.
    """

    def stored_bytes(frames: int) -> int:
        other = Plan(
            policy.with_reservoir(frames),
            total_frames=plan.total_frames,
            chunk_frames=plan.chunk_frames,
        )
        return costs(other, shape, storage, rows=rows).bank_bytes

    assert plan.total_frames is not None, "a scene has an end"
    fewest = policy.fewest_reservoir_frames(plan.chunk_frames)
    assert fewest is not None, "this rule has a reservoir"
    lengths = range(fewest, max(fewest, plan.total_frames) + 1)
    fitting = bisect_right(lengths, free_bytes, key=stored_bytes)
    return lengths[fitting - 1] if fitting else 0
