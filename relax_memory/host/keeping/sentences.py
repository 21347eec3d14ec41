"""What autosave says on the node and in the log: one true sentence, or nothing."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...direction.chunks import in_seconds
from ...saved.rollout import Description, SavedRollout
from ..film.output import name_in_output
from .inputs import Reuse
from .made_from import HOW, MADE_OTHERWISE, changes

Saved = Sequence[tuple[SavedRollout, Description | None]]
ONE_THING = ({"negative", "cfg"}, {"width", "height"})


def continuing(
    rollout: SavedRollout,
    before: Description | None,
    reuse: Reuse | None,
    alike: Sequence[SavedRollout],
    *,
    counts: tuple[int, int],
    anew_seconds: float | None = None,
) -> str:
    """What is there of a video of which a chunk or more is saved.

    Args:
        before: what the rollout was to become; None: it has just begun, with a copy of such chunks
            of another as can be used.
        reuse: inputs that are taken from it.
        alike: rollouts that are made from the same.
        counts: chunks that are saved and that are planned.
        anew_seconds: from when on another rollout that begins so has other shots; None: none has.
    """
    saved_chunks, planned_chunks = counts
    if saved_chunks == planned_chunks:
        text = f"All {planned_chunks} chunks are saved already ({rollout.name})"
    elif before is not None and before.planned_chunks <= saved_chunks:
        text = (
            f"{saved_chunks} of {planned_chunks} chunks are there already ({rollout.name}): only "
            "the rest is made"
        )
    else:
        text = f"Continues after {saved_chunks} of {planned_chunks} saved chunks ({rollout.name})"
    if reuse is not None:
        text += (
            f", with {' and '.join(reuse.names)} as saved: what is connected now differs by "
            f"{100 * reuse.deviation:.2g} % at most, as from another device or precision"
        )
    if anew_seconds is not None:
        text += f"; from {in_seconds(anew_seconds)} s on it begins anew, as shots have changed"
    for other in alike:
        if before is None and len(other.files) > saved_chunks and other.name != rollout.name:
            text += f"; chunk {saved_chunks + 1} of {other.name} is damaged or in use elsewhere"
            break
    return text


def beginning(made_from: dict[str, str], prefix: Tensor | None, saved: Saved) -> str:
    """Why nothing is saved of a video for which someone could expect that; else nothing.

    That is where an unfinished rollout differs in one thing, or has no chunk that can be used.
    """
    for rollout, description in saved:
        if description is None:
            continue
        then = description.made_from
        changed = changes(made_from, then)
        if description.versions.get("autosave") != HOW:
            if set(changed) <= set(MADE_OTHERWISE):
                return (
                    f"{rollout.name} was saved by another version, which this one does not find "
                    "by itself: to go on with it, use Relax Forcing Resume"
                )
        elif not rollout.finished and (len(changed) <= 1 or set(changed) in ONE_THING):
            return _anew(rollout, changed, prefix)
    return ""


def ending(saved_chunks: int, planned_chunks: int, videos: Iterable[Path]) -> str:
    """What a run leaves that was stopped."""
    text = f"{saved_chunks} of {planned_chunks} chunks are saved: queue again to continue"
    if not saved_chunks:
        text = "No chunk is saved: queue again to begin anew"
    names = ", ".join(map(name_in_output, videos))
    return f"{text}. The video so far: {names}" if names else text


def _anew(rollout: SavedRollout, changed: list[str], prefix: Tensor | None) -> str:
    if not changed:
        return f"Starts anew: no chunk of the unfinished rollout {rollout.name} can be used"
    if changed == ["prefix"] and prefix is not None and _begins(rollout, prefix):
        return f"Continues from the first {prefix.shape[2]} frames of {rollout.name}, its prefix"
    return (
        f"Starts anew: {', '.join(changed)} changed since the unfinished rollout {rollout.name}, "
        "with which Relax Forcing Resume can still go on"
    )


def _begins(rollout: SavedRollout, prefix: Tensor) -> bool:
    """Whether the rollout begins with this prefix."""
    try:
        latents = rollout.latents()
    except ValueError:
        return False
    return torch.equal(latents[:, :, : prefix.shape[2]], prefix.to(latents))
