"""What a script means for one video: its shots on the grid of chunks."""

from dataclasses import dataclass
from typing import Literal

Begin = Literal["keep", "recache", "blend", "cut", "return"]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One shot of a video.

    Args:
        first_chunk: where it begins, counted in the whole video, prefix included.
        prompt: the cue whose words it has; cues of equal words share the first of them.
        scene: number of its scene by first appearance.
        transition: how it begins; "keep" for the first.
        blend_seconds: how long its words go over, 0 for all but "blend".
        moment: a latent frame of the video that it must remember.
    """

    first_chunk: int
    prompt: int
    scene: int
    transition: Begin
    blend_seconds: float = 0.0
    moment: int | None = None


@dataclass(frozen=True, kw_only=True)
class Direction:
    """The shots of a video, the first at its beginning, and what there is to say of them.

    Args:
        begins: when they begin; "" for one shot.
        notes: what a person may not expect.
    """

    shots: tuple[Shot, ...]
    begins: str = ""
    notes: tuple[str, ...] = ()
