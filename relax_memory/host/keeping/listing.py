"""What is saved, in lines for people, what they mark it as, and the graph that made it: for nodes
and for our routes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...disk import advice
from ...saved.archive import find_rollout, saved_rollouts, with_takes
from ...saved.rollout import FORGOTTEN, KEPT, LABEL_GAP, UNDER, SavedRollout
from ..web.gate import Refused, serve_get, serve_post
from .autosave import archive_folder
from .bound import most_bytes

ROUTE = "/relax_forcing/rollouts"
ALL_ROUTE = "/relax_forcing/saved"
NOTHING_SAVED = "nothing is saved yet"
MARKS = {"keep": KEPT, "forget": FORGOTTEN, "bring back": ""}


@dataclass(frozen=True, kw_only=True)
class Named:
    """A request about a rollout: its name, or a line of a list that begins with it."""

    rollout: str


def saved_labels() -> list[str]:
    """A line for each saved rollout that is not forgotten, newest first, takes under what they are
    taken from; never empty, or the browser keeps an old one."""
    rollouts = [r for r in saved_rollouts(archive_folder()) if r.mark != FORGOTTEN]
    return [UNDER * depth + r.label for depth, r in with_takes(rollouts)] or [NOTHING_SAVED]


def all_labels() -> list[str]:
    """`saved_labels` of all, with the room that each takes and its mark."""
    return _lines(saved_rollouts(archive_folder()))


def overview() -> list[str]:
    """How many there are and how far their room is used, and a line for each."""
    rollouts = saved_rollouts(archive_folder())
    took = sum(r.bytes for r in rollouts)
    bound = sum(r.bytes for r in rollouts if r.mark == FORGOTTEN or (not r.mark and r.finished))
    said = (
        f"{len(rollouts)} saved, {told_bytes(took)}. {told_bytes(bound)} of that may go once it is "
        f"more than {told_bytes(most_bytes())}: set in ComfyUI's settings, Relax Forcing."
    )
    return [said, "", *_lines(rollouts)]


def mark(label: str, how: str) -> str:
    """Keep a rollout, forget it or bring it back, and what that means for it, in a sentence.

    Raises:
        ValueError: none is saved of that name.
        OSError: its folder cannot be written to.
    """
    rollout = find_rollout(archive_folder(), label)
    try:
        rollout.mark_as(MARKS[how])
    except OSError as error:
        raise OSError(
            f"{rollout.name} could not be marked ({error.strerror}): "
            f"{advice(error, rollout.folder)}."
        ) from error
    if how == "keep":
        return f"{rollout.name} is kept until you bring it back or forget it."
    if how == "forget":
        return (
            f"{rollout.name} is forgotten: it is off the list of Relax Forcing Resume, and goes "
            "first when room is needed. Until then it can be brought back."
        )
    stays = "until newer ones need its room" if rollout.finished else "until it is finished"
    return f"{rollout.name} stays {stays}, as usual."


def graph_of(label: str) -> dict[str, object]:
    """Prompt and workflow that made a rollout.

    Raises:
        ValueError: none is saved of that name, or its graph is not.
    """
    rollout = find_rollout(archive_folder(), label)
    if graph := rollout.graph:
        return graph
    raise ValueError(
        f"The workflow of {rollout.name} is not saved with it: an earlier version of the pack made "
        "it, or ComfyUI with --disable-metadata. A finished video file may carry it."
    )


def serve_saved() -> None:
    """Let the browser and other programs ask for what is saved and mark it."""
    for route, labels in ((ROUTE, saved_labels), (ALL_ROUTE, all_labels)):
        serve_get(route, _listing(labels))
    for how in MARKS:
        serve_post(f"/relax_forcing/{how.replace(' ', '_')}", Named, _answering(_marking(how)))
    serve_post("/relax_forcing/graph", Named, _answering(graph_of))


def told_bytes(count: int) -> str:
    """ "1.2 MB", "12 GB"."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1024
    return f"{size:.1f} {unit}" if size < 10 and unit != "bytes" else f"{size:.0f} {unit}"


def _lines(rollouts: list[SavedRollout]) -> list[str]:
    listed = [UNDER * depth + _line(rollout) for depth, rollout in with_takes(rollouts)]
    return listed or [NOTHING_SAVED]


def _line(rollout: SavedRollout) -> str:
    return LABEL_GAP.join(filter(None, (rollout.label, told_bytes(rollout.bytes), rollout.mark)))


def _listing(labels: Callable[[], list[str]]) -> Callable[[], Awaitable[list[str]]]:
    async def answer() -> list[str]:
        return await asyncio.to_thread(labels)

    return answer


def _marking(how: str) -> Callable[[str], dict[str, object]]:
    return lambda label: {"said": mark(label, how)}


def _answering(do: Callable[[str], dict[str, object]]) -> Callable[[Named], Awaitable[object]]:
    async def answer(asked: Named) -> object:
        try:
            return await asyncio.to_thread(do, asked.rollout)
        except ValueError as error:
            raise Refused(404, str(error)) from error
        except OSError as error:
            raise Refused(500, str(error)) from error

    return answer
