"""A start image in the ways people give it becomes the prefix, bit for bit."""

import json

import comfy_extras.nodes_wan as wan
import nodes as host_nodes
import pytest
import tiny
import tiny_vae
import torch
from comfy_extras.nodes_ar_video import ARVideoI2V
from runs import carrying, sample, sample_custom

SIZE = {"width": 32, "height": 32}


def pictures(count, size=32, seed=0):
    return torch.rand(count, size, size, 3, generator=torch.Generator().manual_seed(seed))


def image_to_video(node=wan.WanImageToVideo, *, length=33, batch_size=1, size=SIZE, **inputs):
    """Positive and negative with a start image, as the host's own node gives them."""
    prompts = tiny.conditioning(1), tiny.conditioning(2)
    made = node.execute(
        *prompts, tiny_vae.vae(), **size, length=length, batch_size=batch_size, **inputs
    )
    return {"positive": made[0], "negative": made[1]}


def prefix(images):
    return host_nodes.VAEEncode().encode(tiny_vae.vae(), images)[0]


GIVEN = {
    "Wan Image To Video": lambda images: image_to_video(start_image=images),
    "with a length of its own": lambda images: image_to_video(start_image=images, length=9),
    "first and last frame node, first only": lambda images: image_to_video(
        wan.WanFirstLastFrameToVideo, start_image=images[:1]
    ),
    "fun inpaint node, first only": lambda images: image_to_video(
        wan.WanFunInpaintToVideo, start_image=images[:1]
    ),
    "positive only": lambda images: {"positive": image_to_video(start_image=images)["positive"]},
    "AR Video I2V": lambda images: {
        "model": ARVideoI2V.execute(
            tiny.remembering(), tiny_vae.vae(), images, **SIZE, length=21, batch_size=1
        )[0]
    },
}


@pytest.mark.parametrize("way", GIVEN)
def test_a_start_image_is_the_prefix_that_vae_encode_makes_of_it(way):
    images = pictures(1)
    expected = sample(prefix=prefix(images))
    assert torch.equal(sample(**GIVEN[way](images)), expected)
    assert torch.equal(expected[:, :, :1], prefix(images)["samples"])


@pytest.mark.parametrize(("count", "frames"), [(3, 1), (5, 2), (8, 2)])
def test_frames_that_the_mask_gives_are_those_encoded_alone(count, frames):
    """What fills no whole latent frame is marked as to be made, and is."""
    images = pictures(count)
    expected = sample(prefix=prefix(images[: 4 * frames - 3]))
    assert torch.equal(sample(**image_to_video(start_image=images)), expected)


def test_a_start_image_is_there_in_every_video_of_a_batch():
    inputs = {"batch_size": 2}
    expected = sample(prefix=prefix(pictures(1)), **inputs)
    assert torch.equal(
        sample(**image_to_video(start_image=pictures(1), batch_size=2), **inputs), expected
    )


def test_image_nodes_without_an_image_change_nothing():
    assert torch.equal(sample(**image_to_video()), sample())
    assert torch.equal(sample(**image_to_video(wan.WanFirstLastFrameToVideo)), sample())


def both_differ():
    one, other = (image_to_video(start_image=pictures(1, seed=s)) for s in (0, 1))
    return {"positive": one["positive"], "negative": other["negative"]}


def with_end(start):
    given = {"start_image": pictures(1)} if start else {}
    return image_to_video(wan.WanFirstLastFrameToVideo, end_image=pictures(1, seed=1), **given)


def holed():
    inputs = image_to_video(start_image=pictures(1))
    inputs["positive"][0][1]["concat_mask"][..., 2:] = 1.0
    return inputs


REFUSED = {
    "with a prefix": (
        lambda: image_to_video(start_image=pictures(1)) | {"prefix": prefix(pictures(1))},
        "positive carries a start image and prefix is connected too, .*: remove the start image or",
    ),
    "two that differ": (both_differ, "positive and negative carry start images that differ: give"),
    "an end image": (
        lambda: with_end(True),
        r"positive .* mask \(concat_mask\) marks more than the first 1 latent frames, such as an "
        "end image.*: only a beginning",
    ),
    "an end image alone": (lambda: with_end(False), "marks more than the first 0 latent frames"),
    "part of a picture": (holed, "marks more than the first 0 latent frames.* parts of a picture"),
    "three images that end within a latent frame": (
        lambda: image_to_video(wan.WanFirstLastFrameToVideo, start_image=pictures(3)),
        "marks more than the first 1 latent frames",
    ),
    "another size": (
        lambda: image_to_video(start_image=pictures(1), size={"width": 64, "height": 32}),
        "positive carries a start image of 64x32, but the video is 32x32: set the same size",
    ),
    "a control video": (
        lambda: image_to_video(wan.WanFunControlToVideo, control_video=pictures(33)),
        "positive conditioning carries concat_latent_image as another model reads it: for a start",
    ),
    "motion tracks": (
        lambda: image_to_video(
            wan.WanTrackToVideo,
            start_image=pictures(1),
            tracks=json.dumps([{"x": x % 30, "y": 9} for x in range(121)]),
            temperature=220.0,
            topk=2,
        ),
        "marks more than the first .* or motion: only a beginning can be given",
    ),
    "an inpainting picture": (
        lambda: {
            "positive": carrying(
                concat_latent_image=torch.ones(1, 16, 4, 4), concat_mask=torch.ones(1, 1, 32, 32)
            )
        },
        "carries concat_latent_image as another model reads it",
    ),
    "a mask alone": (
        lambda: {"positive": carrying(concat_mask=torch.ones(1, 1, 6, 4, 4))},
        "carries concat_mask as another model reads it",
    ),
    "longer than the video": (
        lambda: image_to_video(start_image=pictures(33), length=33),
        "length is 21 video frames, which the prefix alone fills with 33",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_beginning_is_refused(kind):
    inputs, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        sample(**inputs())


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("Wan Image To Video", r"positive conditioning carries a start image \(concat_latent"),
        ("AR Video I2V", r"model carries a start image \(AR Video I2V\)"),
    ],
)
def test_sampler_select_sends_a_start_image_to_our_sampler(way, words):
    inputs = GIVEN[way](pictures(1))
    inputs.pop("negative", None)
    with pytest.raises(ValueError, match=f"{words}.*: use Relax Forcing Sampler, which begins"):
        sample_custom(**inputs)
