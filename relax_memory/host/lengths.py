"""Says on the node which video frames are left out because latents hold 4n + 1 of them."""

from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from .notice import note
from .request import Request


def note_lengths(request: Request) -> None:
    """Note a length that the video cannot have, and that an encoded video may have lost its end."""
    frames = request.grid.length(request.latent_frames)
    if frames != request.length:
        note(
            f"length is {request.length}, but latents hold 4n + 1 video frames: the video has "
            f"{frames}, the next length is {frames + 4}"
        )
    if request.prefix_frames > 1 and _is_encoded("prefix"):
        kept = request.grid.length(request.prefix_frames)
        note(
            f"The video continues after frame {kept} of what was encoded for prefix: latents hold "
            f"4n + 1 video frames, so frames {kept + 1} to {kept + 3} are left out where there are "
            "such"
        )


def _is_encoded(name: str) -> bool:
    """Whether a VAE has encoded this input of the node that is being executed, in the same run."""
    where, graph = get_executing_context(), get_progress_state().dynprompt
    if where is None or not graph.has_node(where.node_id):
        return False
    link = graph.get_node(where.node_id)["inputs"].get(name)
    return isinstance(link, list) and "VAEEncode" in graph.get_node(link[0])["class_type"]
