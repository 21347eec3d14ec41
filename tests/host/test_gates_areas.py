"""Prompts for a part of the picture work; what a chunk cannot follow is refused by name."""

import nodes as host_nodes
import pytest
import tiny
import torch
from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo
from runs import WAYS, sample


def area(prompt, width=16, height=32, x=0, y=0, strength=1.0):
    return host_nodes.ConditioningSetArea().append(prompt, width, height, x, y, strength)[0]


def share(prompt, width=0.5, height=1.0, x=0.0, y=0.0):
    return host_nodes.ConditioningSetAreaPercentage().append(prompt, width, height, x, y, 1.0)[0]


def share_of_film(prompt, temporal=1.0, z=0.0, width=0.5):
    node = ConditioningSetAreaPercentageVideo()
    return node.append(prompt, width, 1.0, temporal, 0.0, 0.0, z, 1.0)[0]


def masked(prompt, mask, bounds="default", strength=1.0):
    return host_nodes.ConditioningSetMask().append(prompt, mask, bounds, strength)[0]


def whole():
    return tiny.conditioning(1)


def part():
    return tiny.conditioning(7)


LEFT = torch.zeros(1, 32, 32)
LEFT[..., :16] = 1.0
AREAS = {
    "pixels": lambda: area(part()),
    "a share": lambda: share(part()),
    "a share of a video": lambda: share_of_film(part()),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_area_is_the_same_in_pixels_and_shares_and_only_there(way):
    videos = [WAYS[way](positive=whole() + make()) for make in AREAS.values()]
    assert all(torch.equal(videos[0], video) for video in videos[1:])
    assert (videos[0] - WAYS[way]()).abs().max() > 0.01


@pytest.mark.parametrize("way", WAYS)
def test_areas_of_both_kinds_stand_side_by_side(way):
    sides = [
        whole() + one(part()) + two(part(), x=x)
        for one, two, x in ((area, share, 0.5), (share, area, 16))
    ]
    first, second = (WAYS[way](positive=prompts) for prompts in sides)
    assert (first - WAYS[way]()).abs().max() > 0.01
    assert torch.equal(first, second)


def test_areas_of_both_kinds_in_positive_and_negative():
    """The host looks for each area of one in the other, and compares their numbers."""
    inputs = {"cfg": 2.0, "positive": whole() + area(part())}
    negative = tiny.conditioning(2) + share_of_film(tiny.conditioning(3))
    video = sample(**inputs, negative=negative)
    assert video.isfinite().all()
    assert (video - sample(**inputs, negative=tiny.conditioning(2))).abs().max() > 0.01


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_of_one_picture_weighs_a_prompt(way):
    video = WAYS[way](positive=whole() + masked(part(), LEFT))
    assert (video - WAYS[way]()).abs().max() > 0.01
    everywhere = masked(whole(), torch.ones(1, 32, 32))
    torch.testing.assert_close(WAYS[way](positive=everywhere), WAYS[way](), rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_part_of_the_film_is_that_of_the_chunks_which_it_touches(way):
    """6 frames in 2 chunks: one half is one chunk, and a bit more than a half is both."""
    plain = WAYS[way]()
    second = WAYS[way](positive=whole() + share_of_film(part(), temporal=0.5, z=0.5))
    assert torch.equal(second[:, :, :3], plain[:, :, :3])
    assert (second - plain)[:, :, 3:].abs().max() > 0.01
    first = WAYS[way](positive=whole() + share_of_film(part(), temporal=0.5))
    always = WAYS[way](positive=whole() + share_of_film(part()))
    assert torch.equal(first[:, :, :3], always[:, :, :3])
    assert (first - always)[:, :, 3:].abs().max() > 0.01
    both = WAYS[way](positive=whole() + share_of_film(part(), temporal=0.8, z=0.2))
    assert torch.equal(both, always)


@pytest.mark.parametrize("way", WAYS)
def test_prompts_one_after_the_other_need_none_for_the_whole_film(way):
    """Each chunk is made under the prompt of its time, which remembers the chunks before."""
    halves = [share_of_film(whole(), 0.5, width=1.0), share_of_film(part(), 0.5, 0.5, width=1.0)]
    video, plain = WAYS[way](positive=halves[0] + halves[1]), WAYS[way]()
    assert torch.equal(video[:, :, :3], plain[:, :, :3])
    assert (video - plain)[:, :, 3:].abs().max() > 0.01
    if way == "own":
        going_on = sample(positive=part(), prefix={"samples": plain[:, :, :3]})
        torch.testing.assert_close(video, going_on, rtol=0, atol=2e-5)


def test_a_prompt_that_begins_later_sits_out_without_clean_passes_too():
    prompts = whole() + share_of_film(part(), temporal=0.4, z=0.6)
    inputs = {"length": 57, "clean_pass": "never"}
    video, plain = sample(positive=prompts, **inputs), sample(**inputs)
    assert torch.equal(video[:, :, :9], plain[:, :, :9])
    assert (video - plain)[:, :, 9:].abs().max() > 0.01


def test_a_prompt_that_begins_later_knows_the_whole_past():
    """Going on from the chunks that it sat out gives what it remembers of them."""
    prompts = whole() + share_of_film(part(), temporal=0.4, z=0.6)
    inputs = {"length": 57, "positive": prompts, "negative": tiny.conditioning(2), "cfg": 2.0}
    video = sample(**inputs)
    plain = sample(**inputs | {"positive": whole()})
    assert torch.equal(video[:, :, :9], plain[:, :, :9])
    assert (video - plain)[:, :, 9:].abs().max() > 0.01
    for frames in (3, 9, 12):
        begun = sample(**inputs, prefix={"samples": video[:, :, :frames]})
        assert torch.equal(begun, video)


def test_areas_with_guidance():
    inputs = {"negative": tiny.conditioning(2), "cfg": 2.0}
    video = sample(positive=whole() + area(part()), **inputs)
    assert (video - sample(**inputs)).abs().max() > 0.01


REFUSED = {
    "a default for a part": (
        lambda: whole() + [[text, options | {"default": True}] for text, options in area(part())],
        "has a default prompt with an area, .*: take the area away, or use Conditioning Combine",
    ),
    "no part of the film": (
        lambda: whole() + share_of_film(part(), temporal=0.5, z=1.0),
        r"holds for no part of the film \(temporal 0.5 from z 1\): set temporal above 0",
    ),
    "a part of the film alone": (
        lambda: share_of_film(part(), temporal=0.5, width=1.0),
        "leaves 100 % of the picture without a prompt from latent frame 3 of 6 on, .*whole film",
    ),
    "beside the picture": (
        lambda: whole() + area(part(), x=32),
        "has an area that begins at x 4, beside the picture of 4x4 in latent pixels",
    ),
    "at the edge": (
        lambda: whole() + share(part(), y=1.0),
        "has an area that begins at y 4, beside the picture",
    ),
    "bounds of a mask": (
        lambda: whole() + masked(part(), LEFT, "mask bounds"),
        'has a mask with an area, .*: set set_cond_area to "default"',
    ),
    "mask and area": (
        lambda: whole() + area(masked(part(), LEFT)),
        "has a mask with an area",
    ),
    "a mask below nothing": (
        lambda: whole() + masked(part(), LEFT - 0.5),
        "has a mask with values from -0.5 to 0.5, but",
    ),
    "a mask that is no number": (
        lambda: whole() + masked(part(), LEFT * torch.nan),
        "has a mask with values from nan to nan, but",
    ),
    "a mask for every frame": (
        lambda: whole() + masked(part(), LEFT.repeat(21, 1, 1)),
        r"has a mask of shape \[21, 32, 32\], but one picture .*: choose one frame",
    ),
    "an area alone": (lambda: area(part()), "leaves 50 % of the picture without a prompt"),
    "a mask alone": (
        lambda: masked(part(), LEFT),
        "leaves [3-5][0-9] % of the picture without a prompt, .*Conditioning Combine",
    ),
    "no strength": (lambda: area(whole(), width=32, strength=0.0), "leaves 100 % of the picture"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_chunk_cannot_follow(kind, way):
    make, words = REFUSED[kind]
    with pytest.raises(ValueError, match=f"positive conditioning {words}"):
        WAYS[way](positive=make())
