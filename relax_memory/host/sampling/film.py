"""What the file of a video is told of its film."""

from ...storyboard import SCENES
from ..request import Request


def shots_of(request: Request) -> list[tuple[int, str]]:
    """The latent frame with which each shot begins, and its words; none for a film of one shot."""
    storyboard = request.storyboard
    shots = storyboard.shots.get(SCENES, ())
    if len(shots) < 2 or not request.said:
        return []
    return [
        (storyboard.chunk(shot.first_chunk).film_frame, request.said[shot.prompt]) for shot in shots
    ]


def chapters_of(request: Request) -> list[tuple[float, str]]:
    """The second at which each shot begins, and its words."""
    return [(request.grid.length(first) / request.fps, words) for first, words in shots_of(request)]
