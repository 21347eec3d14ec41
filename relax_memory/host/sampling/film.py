"""What the file of a video is told of its film."""

from ...storyboard import SCENES
from ..request import Request


def chapters_of(request: Request) -> list[tuple[float, str]]:
    """The second at which each shot begins, and its words; none for a film of one shot."""
    storyboard = request.storyboard
    shots = storyboard.shots.get(SCENES, ())
    if len(shots) < 2 or not request.said:
        return []
    frames = (storyboard.chunk(shot.first_chunk).film_frame for shot in shots)
    return [
        (request.grid.length(frame) / request.fps, request.said[shot.prompt])
        for frame, shot in zip(frames, shots, strict=True)
    ]
