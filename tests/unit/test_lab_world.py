"""The small world can be measured: a true clip is perfect, and every way to break it is seen."""

import math
import random
from dataclasses import replace

import pytest
import torch

from demo.text import TEXT_WIDTH, TOKENS, WORDS, embed, tokens, unknown_words
from lab.measure import measure
from lab.world import (
    COLOURS,
    PATTERNS,
    SIZE,
    SPEEDS,
    Scene,
    Thing,
    draw,
    ground,
    positions,
    random_scene,
)

MOMENTS = torch.arange(48.0)


def scene(**changes) -> Scene:
    """A red circle and a blue square that never meet."""
    things = [
        Thing(
            colour=colour,
            shape=shape,
            radius=8.5,
            start=(20.0 + 2 * y, y),
            velocity=(1.5, 0.0),
            phase=0.3,
        )
        for colour, shape, y in (("red", "circle", 16.0), ("blue", "square", 46.0))
    ]
    settings = {"motion": "bouncing", "pattern": "striped", "ground": "grey", "speed": "fast"}
    return Scene(**{"things": tuple(things), **settings, **changes})


def truth(scene: Scene, moments=MOMENTS) -> torch.Tensor:
    return draw(scene, moments)


def speed(scene: Scene) -> float:
    return sum(math.hypot(*thing.velocity) for thing in scene.things) / len(scene.things)


def test_a_scene_depends_on_the_seed_only():
    assert random_scene(random.Random(3)) == random_scene(random.Random(3))
    assert random_scene(random.Random(3)) != random_scene(random.Random(4))


def test_a_clip_may_begin_at_any_moment():
    whole = truth(scene())
    assert torch.equal(truth(scene(), MOMENTS[20:]), whole[20:])


def reach(spin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels of a triangle in every frame above and below its middle, `[frames, 32]` each."""
    triangle = replace(scene().things[0], shape="triangle", start=(32.0, 32.0), spin=spin)
    still = replace(triangle, velocity=(0.0, 0.0))
    red = draw(scene(things=(still,), pattern="plain"), torch.arange(80.0))[:, 0]
    rows = (red > 0.7).sum(2)
    return rows[:, :32].flip(1), rows[:, 32:]


def test_a_triangle_turns_to_and_fro_but_points_up():
    above, below = reach(spin=0.0)
    assert ((above > 0).sum(1) >= (below > 0).sum(1)).all()
    assert (below != below[:1]).any(1).sum() > 40


def test_a_triangle_with_a_spin_points_anywhere():
    above, below = reach(spin=0.05)
    assert ((above > 0).sum(1) < (below > 0).sum(1)).any()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_things_stay_inside_the_frame(seed, wide):
    drawn = random_scene(random.Random(seed), wide=wide)
    places = positions(drawn, torch.arange(2000.0))
    radii = torch.tensor([thing.radius for thing in drawn.things])[:, None]
    assert (places >= radii - 1e-3).all()
    assert (places <= SIZE - radii + 1e-3).all()


def pairs(motion: str) -> list[Scene]:
    """Of two things that move so."""
    drawn = (random_scene(random.Random(seed)) for seed in range(80))
    return [scene for scene in drawn if len(scene.things) == 2 and scene.motion == motion]


def apart(scene: Scene, moments: torch.Tensor) -> torch.Tensor:
    return (positions(scene, moments)[:, 0] - positions(scene, moments)[:, 1]).norm(dim=-1)


def test_two_things_begin_apart_and_those_that_bounce_meet():
    scenes = pairs("bouncing")
    assert min(apart(scene, torch.zeros(1)) for scene in scenes) > SIZE / 6
    assert all(apart(scene, torch.arange(960.0)).min() < SIZE / 6 for scene in scenes)


def test_two_things_circle_as_one():
    for scene in pairs("circling"):
        distances = apart(scene, torch.arange(960.0))
        assert distances.std() < 0.01 and distances[0] > SIZE / 6
        slowest, fastest = SPEEDS[scene.speed]
        assert slowest <= speed(scene) <= fastest


@pytest.mark.parametrize("seed", range(20))
def test_the_prompt_of_every_scene_is_understood(seed):
    prompt = random_scene(random.Random(seed)).prompt
    assert not unknown_words(prompt)
    assert len(tokens(prompt)) == TOKENS


def test_the_first_thing_is_in_front():
    behind, front = scene().things[1], scene().things[0]
    covered = replace(behind, start=front.start)
    middle = draw(scene(things=(front, covered)), torch.zeros(1))[0, :, 16, 52]
    assert torch.allclose(middle, torch.tensor(COLOURS["red"]), atol=1e-3)


def test_a_true_clip_measures_as_perfect():
    report = measure(truth(scene()), scene(), speed=speed(scene()))
    assert report.colour_error < 1e-3
    assert report.ground_error < 1e-3
    assert report.motion_ratio == pytest.approx(1.0, abs=0.06)
    assert report.shape_error == report.lost == report.split == report.invented == 0
    assert report.follows_prompt


@pytest.mark.parametrize("seed", range(24))
def test_true_clips_of_any_scene_measure_as_perfect(seed):
    drawn = random_scene(random.Random(seed))
    report = measure(truth(drawn), drawn, speed=speed(drawn))
    assert report.main_right == 1
    assert report.lost == report.invented == 0
    assert report.ground_error < 1e-3
    if not math.isnan(report.colour_error):  # things that are never apart tell nothing
        assert report.colour_error < 1e-3
        assert report.shape_error == report.split == 0
        assert report.motion_ratio == pytest.approx(1.0, abs=0.1)


def test_a_square_without_a_corner_is_still_a_square():
    square = replace(scene().things[1], start=(32.0, 32.0), velocity=(0.0, 0.0))
    alone = scene(things=(square,))
    corner = torch.arange(SIZE)[:, None] + torch.arange(SIZE) > SIZE + 7
    cut = ground(alone).where(corner, truth(alone))
    assert (cut != truth(alone)).any()
    assert measure(cut, alone).looks[0].shape == "square"


def test_a_frozen_clip_has_no_motion():
    frozen = truth(scene())[:1].expand(48, -1, -1, -1)
    assert measure(frozen, scene()).motion_ratio == 0


def test_half_the_speed_is_half_the_motion():
    slow = truth(scene(), MOMENTS / 2)
    assert measure(slow, scene(), speed=speed(scene())).motion_ratio == pytest.approx(0.5, abs=0.05)


def test_a_drifting_colour_is_an_error_that_grows():
    drift = torch.linspace(0, 0.3, 48)[:, None, None, None]
    drifting = truth(scene()).lerp(torch.tensor([0.45, 0.45, 0.47])[:, None, None], drift)
    first, last = measure(drifting[:8], scene()), measure(drifting[-8:], scene())
    assert 0 < first.colour_error < last.colour_error / 3


def test_a_thing_that_looks_as_before_has_not_changed():
    first, later = measure(truth(scene())[:16], scene()), measure(truth(scene())[-16:], scene())
    colour, shape = later.changed(first)
    assert colour < 1e-3
    assert shape == 0


def test_a_change_of_colour_and_of_shape_is_one_against_before():
    circle, square = scene().things
    swapped = scene(things=(replace(circle, shape="triangle"), square))
    paler = truth(swapped).lerp(torch.tensor(1.0), 0.1)
    colour, shape = measure(paler, scene()).changed(measure(truth(scene()), scene()))
    assert colour == pytest.approx(0.12, abs=0.02)  # a tenth of the way from red, blue to white
    assert shape == 0.5


def test_a_swapped_thing_has_the_wrong_shape():
    circle, square = scene().things
    swapped = scene(things=(replace(circle, shape="triangle"), square))
    assert measure(truth(swapped), scene()).shape_error == pytest.approx(0.5)


def test_a_thing_that_vanishes_is_lost():
    alone = scene(things=scene().things[:1])
    video = torch.cat([truth(scene())[:8], truth(alone)[8:]])
    assert measure(video, scene()).lost == pytest.approx(0.5 * 40 / 48)


def test_nothing_can_hide_the_thing_in_front():
    behind = scene(things=scene().things[1:])
    video = torch.cat([truth(scene())[:1], truth(behind)[1:]])
    report = measure(video, scene())
    assert report.lost == pytest.approx(0.5 * 47 / 48)
    assert not report.follows_prompt


@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if pattern != "striped"])
def test_another_pattern_is_another_ground(pattern):
    assert scene().pattern == "striped"
    other = truth(scene(pattern=pattern))
    assert measure(other, scene()).ground_error > 0.05


@pytest.mark.parametrize("things", [1, 2])
def test_a_thing_that_never_shows_is_lost_in_the_shortest_clip(things):
    empty = ground(scene()).expand(8, -1, -1, -1)
    report = measure(empty, scene(things=scene().things[:things]))
    assert report.lost == 1
    assert not report.follows_prompt


@pytest.mark.parametrize("wrong", [{"colour": "green"}, {"shape": "triangle"}])
def test_a_main_thing_of_another_kind_does_not_follow_the_prompt(wrong):
    circle, square = scene().things
    report = measure(truth(scene(things=(replace(circle, **wrong), square))), scene())
    assert report.main_right == 0
    assert not report.follows_prompt


def test_a_second_copy_is_a_split():
    circle, square = scene().things
    copy = replace(circle, start=(square.start[0] - 40, square.start[1]))
    assert measure(truth(scene(things=(circle, square, copy))), scene()).split > 0.3


def test_a_colour_that_nobody_asked_for_is_invented():
    more = scene(
        things=(*scene().things, replace(scene().things[0], colour="green", start=(40, 31)))
    )
    assert measure(truth(more), scene()).invented == 1
    assert measure(truth(scene(ground="black")), scene()).ground_error > 0.3


def test_words_know_those_before_them():
    red, blue = embed(tokens("a red circle")), embed(tokens("a blue circle"))
    assert red.shape == (TOKENS, TEXT_WIDTH)
    assert not torch.equal(red[2], blue[2])
    assert torch.equal(red[0], blue[0])
    assert not red[3:].any()


def test_unknown_words_are_left_out_and_named():
    assert tokens("a Red, shiny CIRCLE!") == tokens("a red circle")
    assert unknown_words("a Red, shiny CIRCLE 3") == ["shiny"]
    assert tokens("") == [0] * TOKENS
    assert len(tokens("red " * 17)) == 2 * TOKENS
    assert 3 * len(WORDS) <= TEXT_WIDTH
