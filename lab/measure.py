"""What a video of the small world shows, compared with what its prompt asked for.

Things are found by their colour, frame by frame, so they need no learnt detector and a true clip
measures as perfect. Identity, motion and artefacts stay apart: a mean of them would reward a video
that stands still, or one that forgets.
"""

import math
from dataclasses import dataclass
from itertools import accumulate, repeat
from statistics import median

import numpy as np
from scipy import ndimage
from torch import Tensor

from .world import COLOURS, FRAMES_PER_SECOND, GROUNDS, RADII, SPEEDS, Scene, Thing, ground

NEAR = 0.33  # a pixel further than this from every colour, in RGB from 0 to 1, shows the ground
SMALLEST_PIXELS = 24  # smaller spots are edges, not things
RIGHT_COLOUR = 0.2  # a larger colour error is another colour
TOUCHING = 2.2 * RADII[1]  # pixels between two middles that may overlap
STEP_FRAMES = 2  # video frames over which a displacement is taken
THREEFOLD, FOURFOLD = 0.12, 0.11  # at least, of a triangle and of a square; a true one has over 0.4
OUTLINE = 3  # pixels around a spot that may still be a part of its thing


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One thing of the prompt as one video frame shows it.

    `place` is its middle, `colour` its mean in RGB. `apart` says that no other thing is near, so
    that the symmetries, which tell its shape, are its own.
    """

    place: tuple[float, float]
    colour: tuple[float, ...]
    threefold: float
    fourfold: float
    apart: bool
    pieces: int


Track = list[Sight | None]  # a thing from frame to frame; None where its colour is not seen


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a thing looks in a stretch of a video: its mean colour in RGB, its usual shape."""

    colour: tuple[float, ...]
    shape: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of one stretch of a video, means over its frames and things; NaN: never to be seen.

    `main_right` is the share of frames that show the main thing, the first of the prompt, in its
    colour, and 0 if its usual shape is another; `colour_error` a distance in RGB from 0 to 1;
    `shape_error` the share of things whose usual shape is another; `pixels_per_second` tracked
    displacement, shaking included, `motion_ratio` that over the speed wanted; the artefacts are
    shares of frames, `lost` only where nothing in front can hide the thing.
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
    looks: tuple[Look | None, ...]  # of every thing that is seen apart

    @property
    def follows_prompt(self) -> bool:
        """Whether the main thing is mostly there, in the right colour and shape."""
        return self.main_right > 0.5

    def changed(self, before: "Report") -> tuple[float, float]:
        """How the things look unlike before: distance in RGB, and share of changed shapes."""
        pairs = [p for p in zip(before.looks, self.looks, strict=True) if None not in p]
        colour = _mean([math.dist(old.colour, new.colour) for old, new in pairs])
        return colour, _mean([old.shape != new.shape for old, new in pairs])


def measure(video: Tensor, scene: Scene, *, speed: float | None = None) -> Report:
    """Measure consecutive frames `[T, 3, H, W]` from 0 to 1 against the prompt of `scene`.

    Args:
        speed: what the things should move, in pixels per video frame; the middle of what the
            prompt's word stands for where it is not known.
    """
    tracks, invented = look(video, scene)
    things = scene.things
    looks = [_usual([sight for sight in track if sight and sight.apart]) for track in tracks]
    seen = [(s, t) for track, t in zip(tracks, things, strict=True) for s in track if s and s.apart]
    steps = [step for track in tracks for step in _steps(track)]
    moved = _mean(steps) / STEP_FRAMES
    wanted = speed or sum(SPEEDS[scene.speed]) / 2
    return Report(
        main_right=right_share(tracks[0], things[0]),
        colour_error=_mean([_colour_error(sight, thing) for sight, thing in seen]),
        shape_error=_mean([u.shape != t.shape for u, t in zip(looks, things, strict=True) if u]),
        ground_error=_ground_error(video, scene),
        pixels_per_second=moved * FRAMES_PER_SECOND,
        motion_ratio=moved / wanted,
        lost=_mean([lost for i, track in enumerate(tracks) for lost in _lost(track, tracks[:i])]),
        split=_mean([sight.pieces > 1 for sight, _ in seen]),
        invented=_mean(invented),
        looks=tuple(looks),
    )


def look(video: Tensor, scene: Scene) -> tuple[list[Track], list[bool]]:
    """The track of every thing, and for every frame whether it shows a colour nobody asked for."""
    tracks: list[Track] = [[] for _ in scene.things]
    invented = []
    wanted = {thing.colour for thing in scene.things}
    field = ground(scene).permute(1, 2, 0).numpy()
    for frame in video.permute(0, 2, 3, 1).float().cpu().numpy():
        spots = {colour: _spots(mask) for colour, mask in _masks(frame).items()}
        middles = [_middle(spots[thing.colour]) for thing in scene.things]
        for track, thing, middle in zip(tracks, scene.things, middles, strict=True):
            others = [other for other in middles if other not in (None, middle)]
            apart = middle is not None and all(math.dist(middle, o) >= TOUCHING for o in others)
            track.append(middle and _sight(frame, field, thing.colour, spots, apart=apart))
        invented.append(any(spots[colour] for colour in COLOURS if colour not in wanted))
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


def _sight(
    frame: np.ndarray,
    field: np.ndarray,
    colour: str,
    spots: dict[str, list[np.ndarray]],
    *,
    apart: bool,
) -> Sight:
    largest = spots[colour][0]
    core = ndimage.binary_erosion(largest, iterations=2)
    around = ndimage.binary_dilation(largest, iterations=OUTLINE)
    for other in spots.keys() - {colour}:
        for spot in spots[other]:
            around &= ~spot
    whole = np.array(COLOURS[colour]) - field
    weights = around * (((frame - field) * whole).sum(-1) / (whole**2).sum(-1)).clip(0, 1)
    return Sight(
        place=_middle(spots[colour]),
        colour=tuple(frame[core if core.any() else largest].mean(0).tolist()),
        threefold=_symmetry(weights, 3),
        fourfold=_symmetry(weights, 4),
        apart=apart,
        pieces=len(spots[colour]),
    )


def _symmetry(weights: np.ndarray, order: int) -> float:
    """How much of the `order`-th moment around the middle does not cancel: 0 for a circle.

    A power of a complex number is a harmonic function, so a blur leaves its sum as it is: a soft
    picture has nearly the symmetries of a sharp one.
    """
    row, column = ndimage.center_of_mass(weights)
    y, x = np.indices(weights.shape)
    z = (x - column) + 1j * (y - row)
    return float(abs((weights * z**order).sum()) / (weights * abs(z) ** order).sum())


def _usual(sights: list[Sight]) -> Look | None:
    if not sights:
        return None
    strengths = {
        "circle": 1.0,
        "triangle": median(sight.threefold for sight in sights) / THREEFOLD,
        "square": median(sight.fourfold for sight in sights) / FOURFOLD,
    }
    shape = max(strengths, key=strengths.get)
    colour = np.mean([sight.colour for sight in sights], axis=0)
    return Look(colour=tuple(colour.tolist()), shape=shape)


def right_share(track: Track, thing: Thing) -> float:
    """Share of frames that show a thing in its colour, if its shape is right."""
    seen = [sight for sight in track if sight]
    usual = _usual([sight for sight in seen if sight.apart] or seen)
    if usual is None or usual.shape != thing.shape:
        return 0.0
    return _mean([s is not None and _colour_error(s, thing) < RIGHT_COLOUR for s in track])


def _colour_error(sight: Sight, thing: Thing) -> float:
    return math.dist(sight.colour, COLOURS[thing.colour])


def _steps(track: Track) -> list[float]:
    """Displacements over `STEP_FRAMES` of a thing that is seen whole, in pixels."""
    pairs = zip(track, track[STEP_FRAMES:], strict=False)
    return [math.dist(a.place, b.place) for a, b in pairs if a and b and a.apart and b.apart]


def _lost(track: Track, front: list[Track]) -> list[bool]:
    """For every frame whether the thing is missing, with none of those in front near its place.

    Its place is where it was last seen or is next seen.
    """
    before = accumulate(track, _newer)
    after = reversed([*accumulate(reversed(track), _newer)])
    others = zip(*front, strict=True) if front else repeat(())
    return [
        sight is None and not any(_near(end, other) for end in ends for other in here)
        for sight, here, *ends in zip(track, others, before, after, strict=False)
    ]


def _newer(old: Sight | None, new: Sight | None) -> Sight | None:
    return new or old


def _near(one: Sight | None, other: Sight | None) -> bool:
    return None not in (one, other) and math.dist(one.place, other.place) < TOUCHING


def _ground_error(video: Tensor, scene: Scene) -> float:
    """Distance in RGB of the ground, as it mostly shows, from what it should be."""
    shown = video.float().cpu().median(dim=0).values
    wanted = ground(scene)
    return float((shown - wanted).norm(dim=0).median())


def _mean(figures: list) -> float:
    return float(np.mean(figures)) if figures else math.nan
