"""What a browser would see of a node that is executed in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from comfy_execution.utils import CurrentNodeContext
from server import PromptServer


class Seen:
    """In place of the host's server: `texts` and the files in `videos`, in the order they came."""

    client_id = "browser"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.videos: list[list[str]] = []

    def send_progress_text(self, text: str, node_id: str, sid: str) -> None:
        assert (node_id, sid) == ("7", "browser")
        self.texts.append(text)

    def send_sync(self, event: str, data: dict, client_id: str) -> None:
        where = (data["node"], data["display_node"], data["prompt_id"])
        assert (event, client_id, where) == ("executed", "browser", ("7", "7", "prompt"))
        assert data["output"]["animated"] == [True]
        files = data["output"]["images"]
        self.videos.append([f"{file['subfolder']}/{file['filename']}" for file in files])


@contextmanager
def node() -> Iterator[Seen]:
    """The block is executed as node 7 of a browser's prompt."""
    with pytest.MonkeyPatch.context() as patch, CurrentNodeContext("prompt", "7"):
        seen = Seen()
        patch.setattr(PromptServer, "instance", seen, raising=False)
        yield seen
