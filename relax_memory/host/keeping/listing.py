"""What is saved, in lines for people: for the node that brings it back, and for the browser."""

import asyncio

from ...saved.archive import saved_rollouts
from ..web.gate import serve_get
from .autosave import archive_folder

ROUTE = "/relax_forcing/rollouts"
NOTHING_SAVED = "nothing is saved yet"


def saved_labels() -> list[str]:
    """A line for each saved rollout, newest first; never empty, or the browser keeps an old one."""
    return [rollout.label for rollout in saved_rollouts(archive_folder())] or [NOTHING_SAVED]


def serve_labels() -> None:
    """Let the browser ask for them."""

    async def answer() -> list[str]:
        return await asyncio.to_thread(saved_labels)

    serve_get(ROUTE, answer)
