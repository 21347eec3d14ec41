"""What is seen on the node that is being executed: a line of text, its last words, growing videos.

The line is replaced by the next one. What must still stand there when the node has ended, well or
badly, is noted: its last words are the ending and all notes. Said to the browser that queued it;
nothing is said where none did.
"""

import functools
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from comfy.model_management import InterruptProcessingException
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer


@dataclass
class _Node:
    """A node at work."""

    start: float = field(default_factory=time.perf_counter)
    notes: list[str] = field(default_factory=list)


_node: ContextVar[_Node | None] = ContextVar("relax_forcing_node", default=None)


def tell(text: str) -> None:
    """Show `text` on the node until the next text."""
    where, server = get_executing_context(), _with_browser()
    if where is not None and server is not None:
        # without sid hosts of today tell every browser, where that id may be another node
        server.send_progress_text(text, where.node_id, sid=server.client_id)


def _with_browser() -> PromptServer | None:
    """The server, where what it executes was queued by somebody who listens."""
    server = getattr(PromptServer, "instance", None)
    return server if getattr(server, "client_id", None) is not None else None


def note(text: str) -> None:
    """Show `text` on the node, now and among its last words, unless it is noted already."""
    notes = _noted()
    if not any(text in noted for noted in notes):
        notes.append(text)
        tell(text)


def speaking(execute: Callable) -> Callable:
    """Let a node say on itself why it ends early; the browser hides the reason of an error."""

    @functools.wraps(execute)
    def speak(*args: object, **kwargs: object) -> object:
        token = _node.set(_Node())
        try:
            return execute(*args, **kwargs)
        except InterruptProcessingException:
            _last_words(*([] if _noted() else ["Stopped"]))  # or a time left would stand there
            raise
        except Exception as error:
            _last_words(str(error).rstrip(".") or type(error).__name__)
            raise
        finally:
            _node.reset(token)

    return speak


def tell_made(seconds: float, *, videos: int = 1) -> None:
    """Show as the node's last words how much video it has made, and in which time."""
    what = f"{video_length(seconds)} of video"
    if videos > 1:
        what = f"{videos} videos of {video_length(seconds)}"
    _last_words(f"{what} in {duration(time.perf_counter() - (_node.get() or _Node()).start)}")


def _noted() -> list[str]:
    return (_node.get() or _Node()).notes


def _last_words(*ending: str) -> None:
    if words := [*ending, *_noted()]:
        tell(". ".join(word.rstrip(".") for word in words))


def show_videos(files: Sequence[dict[str, str]]) -> None:
    """Let the node play files of the output folder, finished or growing."""
    where, server = get_executing_context(), _with_browser()
    if where is None or server is None:
        return
    message = {
        "node": where.node_id,
        "display_node": get_progress_state().dynprompt.get_display_node_id(where.node_id),
        "output": {"images": list(files), "animated": [True]},
        "prompt_id": where.prompt_id,
    }
    server.send_sync("executed", message, server.client_id)


class TimeLeft:
    """Tells the time that is left by the pace since the first report."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None  # done and clock at the first report

    def __call__(self, done: float, total: float) -> str:
        """ ", 42 s left"; empty at first, as what came before was loading."""
        now = time.perf_counter()
        if self._first is None or done <= self._first[0]:  # a run may be begun a second time
            self._first = (done, now)
            return ""
        first_done, first = self._first
        return f", {duration((now - first) / (done - first_done) * (total - done))} left"


def video_length(seconds: float) -> str:
    """ "60 s", "5.1 s"."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def duration(seconds: float) -> str:
    """Seconds in words that a person reads at a glance: "42 s", "3 min 10 s", "2 h 5 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
