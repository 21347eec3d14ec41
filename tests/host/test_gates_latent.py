"""What the LATENT in `prefix` carries: a video to go on from, whole and not empty."""

import pytest
import torch
from comfy.nested_tensor import NestedTensor
from runs import sample


def latent(frames=2, batch=1, **more):
    shape = (batch, 16, frames, 4, 4)
    return {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(0))} | more


def empty(frames=1):
    return {"samples": torch.zeros(1, 16, frames, 4, 4)}


REFUSED = {
    "an empty latent": (lambda: empty(2), "prefix is empty .* from latent frame 0 of sample 0"),
    "a picture and an empty latent": (
        lambda: {"samples": torch.cat([latent()["samples"], empty()["samples"]], 2)},
        "prefix is empty .all zeros. from latent frame 2 of sample 0, .* grey: connect the latents",
    ),
    "frames that were cut away": (
        lambda: latent(frames=0),
        r"prefix is of shape \[1, 16, 0, 4, 4\], so it holds no frames: look at the node before",
    ),
    "a noise mask": (
        lambda: latent(noise_mask=torch.zeros(1, 1, 2, 4, 4)),
        "prefix has a noise mask, .*: use latents without a mask",
    ),
    "sound": (
        lambda: latent(type="audio"),
        "prefix holds latents of audio, but the latents of one",
    ),
    "picture and sound": (
        lambda: {"samples": NestedTensor([torch.ones(1, 16, 1, 4, 4), torch.ones(1, 8, 9)])},
        "prefix holds several latents in one",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_video_goes_on_from(kind):
    make, words = REFUSED[kind]
    with pytest.raises(ValueError, match=words):
        sample(prefix=make())


def test_what_other_nodes_add_changes_nothing(caplog):
    expected = sample(prefix=latent())
    more = {"batch_index": [3], "downscale_ratio_spacial": 8, "noise_mask": torch.ones(1, 1, 4, 4)}
    assert torch.equal(sample(prefix=latent(**more)), expected)
    assert "takes no part" not in caplog.text
    assert torch.equal(sample(prefix=latent(colour="red")), expected)
    assert caplog.text.count("prefix carries colour, which takes no part.") == 1
