"""What a video of the small world shows, compared with what its prompt asked for.

Things are found by their colour, frame by frame, so they need no learnt detector and a true clip
measures as perfect. Identity, motion and artefacts stay apart: a mean of them would reward a video
that stands still, or one that forgets.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from torch import Tensor

from .world import COLOURS, FRAMES_PER_SECOND, GROUNDS, RADII, SPEEDS, Scene, ground

NEAR = 0.33  # a pixel further than this from every colour, in RGB from 0 to 1, shows the ground
SMALLEST_PIXELS = 24  # smaller spots are edges, not things
HIDDEN_FRAMES = 24  # how long a thing may stay behind another
RIGHT_COLOUR = 0.2  # a larger colour error is another colour
TOUCHING = 2.2 * RADII[1]  # pixels between two middles that may overlap
STEP_FRAMES = 2  # video frames over which a displacement is taken
ROUNDNESS = {"circle": 0.82, "square": 0.52, "triangle": 0.0}  # at least


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One thing of the prompt in one video frame.

    `place` is None where nothing of its colour is seen. `apart` says that no other thing is near,
    so that `shape` and `colour_error` (distance in RGB) tell something.
    """

    place: tuple[float, float] | None
    pixels: int
    shape: str | None
    colour_error: float
    apart: bool
    pieces: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of one stretch of a video, means over its frames and things; NaN: never to be seen.

    `main_right` is the share of frames that show the main thing, the first of the prompt, in its
    colour and shape; `colour_error` a distance in RGB from 0 to 1; `shape_error` and the artefacts
    are shares of frames; `pixels_per_second` is tracked displacement, `motion_ratio` that over the
    speed wanted.
    """

    main_right: float
    colour_error: float
    shape_error: float
    ground_error: float
    pixels_per_second: float
    motion_ratio: float
    lost: float
    split: float
    invented: float

    @property
    def follows_prompt(self) -> bool:
        """Whether the main thing is mostly there, in the right colour and shape."""
        return self.main_right > 0.5


def measure(video: Tensor, scene: Scene, *, speed: float | None = None) -> Report:
    """Measure consecutive frames `[T, 3, H, W]` from 0 to 1 against the prompt of `scene`.

    Args:
        speed: what the things should move, in pixels per video frame; the middle of what the
            prompt's word stands for where it is not known.
    """
    tracks, invented = look(video, scene)
    seen = [sight for track in tracks for sight in track if sight.apart]
    steps = [step for track in tracks for step in _steps(track)]
    wanted = speed or sum(SPEEDS[scene.speed]) / 2
    moved = _mean(steps) / STEP_FRAMES
    main = scene.things[0].shape
    return Report(
        main_right=_mean(
            [sight.shape == main and sight.colour_error < RIGHT_COLOUR for sight in tracks[0]]
        ),
        colour_error=_mean([sight.colour_error for sight in seen]),
        shape_error=_mean(
            [
                sight.shape != thing.shape
                for track, thing in zip(tracks, scene.things, strict=True)
                for sight in track
                if sight.apart
            ]
        ),
        ground_error=_ground_error(video, scene),
        pixels_per_second=moved * FRAMES_PER_SECOND,
        motion_ratio=moved / wanted,
        lost=_mean([lost for track in tracks for lost in _lost(track, alone=len(tracks) == 1)]),
        split=_mean([sight.pieces > 1 for sight in seen]),
        invented=_mean(invented),
    )


def look(video: Tensor, scene: Scene) -> tuple[list[list[Sight]], list[bool]]:
    """The track of every thing, and for every frame whether it shows a colour nobody asked for."""
    tracks: list[list[Sight]] = [[] for _ in scene.things]
    invented = []
    for frame in video.permute(0, 2, 3, 1).float().cpu().numpy():
        spots = {colour: _spots(mask) for colour, mask in _masks(frame).items()}
        places = [_middle(spots[thing.colour]) for thing in scene.things]
        for track, thing, place in zip(tracks, scene.things, places, strict=True):
            before = place or (track[-1].place if track else None)
            others = [p for t, p in zip(scene.things, places, strict=True) if t is not thing]
            near = any(_distance(before, other) < TOUCHING for other in others)
            track.append(_sight(frame, thing.colour, spots[thing.colour], place, apart=not near))
        asked = {thing.colour for thing in scene.things}
        invented.append(any(spots[colour] for colour in COLOURS if colour not in asked))
    return tracks, invented


def _masks(frame: np.ndarray) -> dict[str, np.ndarray]:
    """For every colour the pixels `[H, W]` that show it."""
    palette = np.array([*COLOURS.values(), *GROUNDS.values()])
    distance = np.linalg.norm(frame[:, :, None] - palette, axis=-1)
    nearest = np.where(distance.min(-1) < NEAR, distance.argmin(-1), -1)
    return {colour: nearest == index for index, colour in enumerate(COLOURS)}


def _spots(mask: np.ndarray) -> list[np.ndarray]:
    """Connected pixels as masks of their own, the largest first."""
    labels, count = ndimage.label(mask)
    spots = [labels == label for label in range(1, count + 1)]
    return sorted((s for s in spots if s.sum() >= SMALLEST_PIXELS), key=np.sum, reverse=True)


def _middle(spots: list[np.ndarray]) -> tuple[float, float] | None:
    """Centre of the largest spot, x and y."""
    if not spots:
        return None
    y, x = ndimage.center_of_mass(spots[0])
    return x, y


def _distance(a: tuple[float, float] | None, b: tuple[float, float] | None) -> float:
    return math.inf if a is None or b is None else math.dist(a, b)


def _sight(
    frame: np.ndarray,
    colour: str,
    spots: list[np.ndarray],
    place: tuple[float, float] | None,
    *,
    apart: bool,
) -> Sight:
    if place is None:
        nothing = {"place": None, "pixels": 0, "shape": None, "colour_error": 0.0, "pieces": 0}
        return Sight(**nothing, apart=False)
    core = ndimage.binary_erosion(spots[0], iterations=2)
    shown = frame[core if core.any() else spots[0]].mean(0)
    return Sight(
        place=place,
        pixels=int(spots[0].sum()),
        shape=_shape(spots[0], place),
        colour_error=float(np.linalg.norm(shown - np.array(COLOURS[colour]))),
        apart=apart,
        pieces=len(spots),
    )


def _shape(spot: np.ndarray, place: tuple[float, float]) -> str:
    """By how much of the circle around it a spot fills."""
    y, x = np.nonzero(spot)
    radius = np.hypot(x - place[0], y - place[1]).max() + 0.5
    filled = spot.sum() / (math.pi * radius**2)
    return next(shape for shape, least in ROUNDNESS.items() if filled >= least)


def _steps(track: list[Sight]) -> list[float]:
    """Displacements over `STEP_FRAMES` of a thing that is seen whole, in pixels."""
    pairs = zip(track, track[STEP_FRAMES:], strict=False)
    return [_distance(a.place, b.place) for a, b in pairs if a.apart and b.apart]


def _lost(track: list[Sight], *, alone: bool) -> list[bool]:
    """For every frame whether the thing is missing for longer than another could hide it."""
    if alone or not any(sight.place for sight in track):
        return [not sight.place for sight in track]
    missing, lost = 0, []
    for sight in track:
        missing = 0 if sight.place else missing + 1
        lost.append(missing > HIDDEN_FRAMES)
    return lost


def _ground_error(video: Tensor, scene: Scene) -> float:
    """Distance in RGB of the ground, as it mostly shows, from what it should be."""
    shown = video.float().cpu().median(dim=0).values
    wanted = ground(scene)
    return float((shown - wanted).flatten(1).median(dim=1).values.norm())


def _mean(figures: list) -> float:
    return float(np.mean(figures)) if figures else math.nan
