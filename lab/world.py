"""A small world of coloured shapes, drawn from formulas: what the bundled models were trained on.

A scene is a handful of numbers. Its picture and the place of every shape are known at any moment,
so a clip can begin anywhere and a measurement can be compared with the truth. Knows no model.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from demo.text import MOTIONS, PATTERNS, SHAPES

SIZE = 64  # of the square frame, in pixels
FRAMES_PER_SECOND = 16
COLOURS = {
    "red": (0.90, 0.15, 0.15),
    "yellow": (0.98, 0.85, 0.15),
    "green": (0.10, 0.80, 0.20),
    "blue": (0.15, 0.30, 0.95),
    "purple": (0.65, 0.15, 0.85),
    "white": (1.00, 1.00, 1.00),
}
GROUNDS = {
    "grey": (0.45, 0.45, 0.47),
    "green": (0.25, 0.42, 0.28),
    "blue": (0.28, 0.38, 0.55),
    "brown": (0.45, 0.33, 0.22),
    "black": (0.12, 0.12, 0.16),
}
PATTERN_PERIOD = 16.0  # pixels
PATTERN_CONTRAST = 0.07
SPEEDS = {"slow": (0.4, 0.6), "fast": (0.9, 1.2)}  # pixels per video frame
RADII = (8.0, 9.5)
TILT = 0.2  # radians that things turn to either side of upright
SWING = 2 * math.pi / 80  # of this to and fro per video frame: it takes 5 seconds
PARTS = 4  # rows and columns of the parts of a frame, by which two things begin apart
WIDE_SPEEDS, WIDE_RADII = {"slow": (0.5, 0.8), "fast": (1.4, 1.9)}, (7.5, 9.5)
WIDE_SPINS = (-0.06, 0.06)  # radians per video frame
EDGE = 2.0  # pixels over which one colour goes over into another


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One shape. `start` and `velocity` are in pixels and pixels per video frame.

    A bouncing thing starts at `start` and is thrown back by the edges of the frame. A circling one
    goes around the middle of the frame at the distance of `start`. Both turn to and fro,
    beginning at `phase`, or go on turning where they have a spin.
    """

    colour: str
    shape: str
    radius: float
    start: tuple[float, float]
    velocity: tuple[float, float]
    phase: float
    spin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a clip shows. The first of the things is in front of the others."""

    things: tuple[Thing, ...]
    motion: str
    pattern: str
    ground: str
    speed: str

    @property
    def prompt(self) -> str:
        things = " and ".join(f"a {thing.colour} {thing.shape}" for thing in self.things)
        return f"{things} {self.motion} over a {self.pattern} {self.ground} field, {self.speed}"


def random_scene(rng: random.Random, *, apart: bool = True, wide: bool = False) -> Scene:
    """One or two things of different colours, anywhere, on their way.

    Args:
        apart: let two things begin apart, and circle as one, so that only bouncing things meet.
        wide: let them be smaller, faster and turned any way, so that a VAE sees more than a model.
    """
    speeds = WIDE_SPEEDS if wide else SPEEDS
    motion, speed = rng.choice(MOTIONS), rng.choice(tuple(speeds))
    things = []
    for colour in rng.sample(tuple(COLOURS), rng.choice((1, 2))):
        thing = _random_thing(rng, colour, speeds[speed], wide=wide)
        while apart and things and not _begin_apart(things[0], thing, motion):
            thing = _random_thing(rng, colour, speeds[speed], wide=wide)
        things.append(thing)
    return Scene(
        things=tuple(_as_one(things) if apart and motion == "circling" else things),
        motion=motion,
        pattern=rng.choice(PATTERNS),
        ground=rng.choice(tuple(GROUNDS)),
        speed=speed,
    )


def _random_thing(
    rng: random.Random, colour: str, speeds: tuple[float, float], *, wide: bool
) -> Thing:
    radius, speed = rng.uniform(*(WIDE_RADII if wide else RADII)), rng.uniform(*speeds)
    # Not along an axis: half of the frame would never be visited.
    direction = rng.choice((0, 1, 2, 3)) * math.pi / 2 + rng.uniform(0.3, math.pi / 2 - 0.3)
    return Thing(
        colour=colour,
        shape=rng.choice(SHAPES),
        radius=radius,
        start=(rng.uniform(radius, SIZE - radius), rng.uniform(radius, SIZE - radius)),
        velocity=(speed * math.cos(direction), speed * math.sin(direction)),
        phase=rng.uniform(0, 2 * math.pi),
        spin=rng.uniform(*WIDE_SPINS) if wide else 0.0,
    )


def _begin_apart(one: Thing, other: Thing, motion: str) -> bool:
    """Whether two things begin neither in the same part of the frame nor in neighbouring ones."""
    places = [parts(thing, _path(thing, motion, torch.zeros(1))[0]) for thing in (one, other)]
    return not near(*(part_number(*place) for place in places))


def near(one: int | Tensor, other: int | Tensor) -> bool | Tensor:
    """Whether parts of the frame, by their numbers, are the same or neighbours."""
    rows, columns = one // PARTS - other // PARTS, one % PARTS - other % PARTS
    return (abs(rows) <= 1) & (abs(columns) <= 1)


def part_number(across: float, down: float) -> int:
    """Of the part that a place is in, row by row; the arguments are what `parts` gave."""
    return PARTS * int(down) + int(across)


def _as_one(things: list[Thing]) -> list[Thing]:
    """Circling things with the same angle a video frame, as fast as the first one on average."""
    distances = [float(_distance_from_middle(thing)) for thing in things]
    angle = math.hypot(*things[0].velocity) * len(things) / sum(distances)
    angle = math.copysign(angle, things[0].velocity[0])
    return [
        replace(thing, velocity=(angle * distance, 0.0))
        for thing, distance in zip(things, distances, strict=True)
    ]


def parts(thing: Thing, place: Tensor) -> list[float]:
    """How many of the `PARTS` of a frame, across and down, lie before a place `[2]` of a thing."""
    return [PARTS * fraction(x, thing.radius, SIZE - thing.radius) for x in place.tolist()]


def fraction(number: float, least: float, most: float) -> float:
    """Of the way from `least` to `most`; never all of it."""
    return min(max((number - least) / (most - least), 0.0), 1.0 - 1e-6)


def positions(scene: Scene, moments: Tensor) -> Tensor:
    """Centre of every thing, `[moments, things, 2]` as x and y in pixels.

    `moments` counts video frames, from any beginning.
    """
    return torch.stack([_path(thing, scene.motion, moments) for thing in scene.things], dim=1)


def _path(thing: Thing, motion: str, moments: Tensor) -> Tensor:
    start, velocity = torch.tensor(thing.start), torch.tensor(thing.velocity)
    if motion == "bouncing":
        room = SIZE - 2 * thing.radius
        travelled = (start - thing.radius + velocity * moments[:, None]) % (2 * room)
        return thing.radius + torch.minimum(travelled, 2 * room - travelled)
    middle = SIZE / 2
    offset = start - middle
    distance = _distance_from_middle(thing)
    turn = velocity.norm() / distance * moments * math.copysign(1.0, thing.velocity[0])
    angle = torch.atan2(offset[1], offset[0]) + turn
    return middle + distance * torch.stack([angle.cos(), angle.sin()], dim=1)


def _distance_from_middle(thing: Thing) -> Tensor:
    """Of a circling thing."""
    return (torch.tensor(thing.start) - SIZE / 2).norm().clamp(10.0, SIZE / 2 - thing.radius)


def draw(scene: Scene, moments: Tensor) -> Tensor:
    """The frames `[moments, 3, SIZE, SIZE]` of a scene, with values from 0 to 1."""
    frames = ground(scene).expand(len(moments), 3, SIZE, SIZE)
    for thing in reversed(scene.things):
        place = _path(thing, scene.motion, moments)
        offset = _grid() - place[:, :, None, None]
        distance = _distance(thing, offset, _angle(thing, moments))
        colour = torch.tensor(COLOURS[thing.colour])[:, None, None]
        frames = torch.lerp(frames, colour, (0.5 - distance / EDGE).clamp(0, 1))
    return frames


def ground(scene: Scene) -> Tensor:
    """The field without its things, `[3, SIZE, SIZE]`."""
    wave = torch.sin(2 * math.pi / PATTERN_PERIOD * _grid())
    height = {
        "plain": torch.zeros(SIZE, SIZE),
        "striped": torch.sin(2 * math.pi / PATTERN_PERIOD * _grid().sum(0)),
        "dotted": 2 * wave.prod(0).clamp(min=0) * (wave[0] > 0) - 0.5,
        "checkered": 1.5 * wave.prod(0),
    }[scene.pattern]
    colour = torch.tensor(GROUNDS[scene.ground])[:, None, None]
    return (colour + PATTERN_CONTRAST * (2 * height).clamp(-1, 1)).clamp(0, 1)


def _grid() -> Tensor:
    """Middle of every pixel, `[2, SIZE, SIZE]` as x and y."""
    axis = torch.arange(SIZE) + 0.5
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"))


def _angle(thing: Thing, moments: Tensor) -> Tensor:
    if thing.spin:
        return thing.phase + thing.spin * moments
    return math.pi / 2 + TILT * torch.sin(thing.phase + SWING * moments)  # a triangle points up


def _distance(thing: Thing, offset: Tensor, angle: Tensor) -> Tensor:
    """Distance to the outline in pixels, negative inside: `[moments, 1, SIZE, SIZE]`."""
    if thing.shape == "circle":
        return offset.norm(dim=1, keepdim=True) - thing.radius
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x = cos * offset[:, 0] + sin * offset[:, 1]
    y = cos * offset[:, 1] - sin * offset[:, 0]
    if thing.shape == "square":
        half = 0.85 * thing.radius
        return (torch.maximum(x.abs(), y.abs()) - half)[:, None]
    sides = [math.cos(turn) * x + math.sin(turn) * y for turn in _thirds()]
    return (torch.stack(sides).amax(0) - 0.6 * thing.radius)[:, None]


def _thirds() -> Sequence[float]:
    return [2 * math.pi * third / 3 for third in range(3)]
