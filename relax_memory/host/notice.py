"""A line of text on the node that is being executed."""

from comfy_execution.utils import get_executing_context
from server import PromptServer


def tell(text: str) -> None:
    """Show `text` on the node; does nothing where no server executes one."""
    where = get_executing_context()
    if where is not None and PromptServer.instance is not None:
        PromptServer.instance.send_progress_text(text, where.node_id)
