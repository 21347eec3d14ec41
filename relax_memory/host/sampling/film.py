"""The film of a request: its storyboard, and what files and latents are told of it."""

from dataclasses import replace

from ...policies import RelaxedMemory
from ...storyboard import SCENES, Storyboard
from ..options import options_of
from ..request import Request


def storyboard_of(request: Request) -> Storyboard:
    """The chunks of a request; without a memory node they read by the paper's settings."""
    remembered = options_of(request.model)
    return Storyboard(
        remembered.policy if remembered else RelaxedMemory(),
        total_frames=request.latent_frames,
        chunk_frames=request.frames_per_chunk,
        prefix_frames=request.prefix_frames,
        shots=request.shots,
        steerable=request.steerable,
        grid=replace(request.grid, fps=request.fps),
    )


def chapters_of(request: Request) -> list[tuple[float, str]]:
    """The second at which each shot begins, and its words; none for a film of one shot."""
    storyboard = storyboard_of(request)
    shots = storyboard.shots.get(SCENES, ())
    if len(shots) < 2 or not request.said:
        return []
    frames = (storyboard.chunk(shot.first_chunk).film_frame for shot in shots)
    return [
        (request.grid.length(frame) / request.fps, request.said[shot.prompt])
        for frame, shot in zip(frames, shots, strict=True)
    ]
