"""What may be asked of a running rollout over HTTP: other words, none of an edit, and an end.

Each answer to `direct` and `withdraw` also goes to the browser that queued the prompt, as the event
`relax_forcing.directed`, so that the graph there has the words of the video.
"""

from dataclasses import dataclass

from server import PromptServer

from ..web.gate import serve_post
from .desk import Desk, Wish, desk_of

EVENT = "relax_forcing.directed"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A running rollout: the prompt, and the node in it that samples."""

    prompt_id: str
    node_id: str


@dataclass(frozen=True, kw_only=True)
class Direct(Wish, Run):
    """A wish for a run."""


@dataclass(frozen=True, kw_only=True)
class Withdraw(Run):
    """`edit` is the number that `direct` answered."""

    edit: int


def serve_steering() -> None:
    """Let people steer what runs."""

    async def direct(asked: Direct) -> object:
        desk = desk_of(asked.prompt_id, asked.node_id)
        return _directed(asked, desk, desk.direct(asked))

    async def withdraw(asked: Withdraw) -> object:
        desk = desk_of(asked.prompt_id, asked.node_id)
        return _directed(asked, desk, desk.withdraw(asked.edit))

    async def enough(asked: Run) -> object:
        return desk_of(asked.prompt_id, asked.node_id).enough()

    serve_post("/relax_forcing/direct", Direct, direct)
    serve_post("/relax_forcing/withdraw", Withdraw, withdraw)
    serve_post("/relax_forcing/enough", Run, enough)


def _directed(asked: Run, desk: Desk, answer: dict[str, object]) -> dict[str, object]:
    server = getattr(PromptServer, "instance", None)
    if server is not None and desk.client_id is not None:
        server.send_sync(EVENT, answer | {"prompt_id": asked.prompt_id}, desk.client_id)
    return answer
