"""What is saved, in lines for people: for the node that brings it back, and for the browser."""

import asyncio

from aiohttp import web
from server import PromptServer

from ...saved.archive import saved_rollouts
from .autosave import archive_folder

ROUTE = "/relax_forcing/rollouts"
NOTHING_SAVED = "nothing is saved yet"


def saved_labels() -> list[str]:
    """A line for each saved rollout, newest first; never empty, or the browser keeps an old one."""
    return [rollout.label for rollout in saved_rollouts(archive_folder())] or [NOTHING_SAVED]


def serve_labels() -> None:
    """Let the browser ask for them, where there is a server that does not answer this yet."""
    server = getattr(PromptServer, "instance", None)
    if server is None or any(getattr(route, "path", None) == ROUTE for route in server.routes):
        return

    @server.routes.get(ROUTE)
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(saved_labels))
