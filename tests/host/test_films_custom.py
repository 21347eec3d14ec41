"""Shots through Sampler Select: the host's noise at the film's frames, all else by the scene."""

import pytest
import tiny
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, DualCFGGuider
from comfy_extras.nodes_perpneg import PerpNegGuider
from runs import sample_custom

CHUNK = 3


def shots(second, **inputs):
    """Two shots, the second from chunk 1 on: its first picture is 9 of 16 a second."""
    defaults = {"start_seconds": 9 / 16, "transition": "keep", "blend_seconds": 1.0}
    return tiny.node(
        "RelaxForcingShot",
        conditioning=tiny.conditioning(second),
        before=tiny.conditioning(1),
        **defaults | inputs,
    )[0]


@pytest.mark.parametrize("transition", ["keep", "recache", "cut"])
def test_what_comes_before_a_shot_stays(transition):
    plain = sample_custom(positive=tiny.conditioning(1))
    changed = sample_custom(positive=shots(2, transition=transition))
    assert torch.equal(changed[:, :, :CHUNK], plain[:, :, :CHUNK])
    assert (changed[:, :, CHUNK:] - plain[:, :, CHUNK:]).abs().max() > 0.01


def test_a_blend_that_is_over_at_once_is_keep():
    kept = sample_custom(positive=shots(2))
    blended = sample_custom(positive=shots(2, transition="blend", blend_seconds=0.1))
    assert torch.equal(kept, blended)


def test_the_same_words_are_no_change():
    assert torch.equal(
        sample_custom(positive=shots(1)), sample_custom(positive=tiny.conditioning(1))
    )


GUIDERS = {
    "dual": lambda model, prompts: DualCFGGuider.execute(model, *prompts, 2.0, 3.0, "regular"),
    "perp neg": lambda model, prompts: PerpNegGuider.execute(model, *prompts, 2.0, 1.0),
}


@pytest.mark.parametrize("name", GUIDERS)
@pytest.mark.parametrize("place", range(3))
def test_any_prompt_of_a_guider_may_have_shots(name, place):
    def made(changed):
        prompts = [tiny.conditioning(seed) for seed in (4, 5, 6)]
        prompts[place] = changed
        return sample_custom(guider=GUIDERS[name](tiny.remembering(), prompts)[0])

    plain, film = made(tiny.conditioning(1)), made(shots(2))
    assert torch.equal(film[:, :, :CHUNK], plain[:, :, :CHUNK])
    assert (film[:, :, CHUNK:] - plain[:, :, CHUNK:]).abs().max() > 1e-4


class Given:
    """Noise of the host from somewhere else."""

    def __init__(self, noise, seed):
        self.noise, self.seed = noise, seed

    def generate_noise(self, latent):
        return self.noise


def test_a_cut_is_the_video_of_the_next_seed_on_the_noise_of_its_frames():
    noise = torch.randn(1, 16, 6, 4, 4, generator=torch.Generator().manual_seed(5))
    film = sample_custom(positive=shots(2, transition="cut"), noise=Given(noise, 7))
    alone = sample_custom(
        {"samples": torch.zeros(1, 16, 3, 4, 4)},
        positive=tiny.conditioning(2),
        noise=Given(noise[:, :, 3:], 8),
    )
    assert torch.equal(film[:, :, 3:], alone)


def test_of_a_film_with_scenes_it_says_that_the_latent_does_not_know_them(caplog):
    sample_custom(positive=shots(2))
    assert "does not know where the film is cut" not in caplog.text
    sample_custom(positive=shots(2, transition="cut"))
    assert caplog.text.count("does not know where the film is cut") == 1


def test_without_a_memory_node_shots_are_refused():
    guider = BasicGuider.execute(tiny.model(), shots(2))[0]
    with pytest.raises(ValueError, match="carries shots, which are prepared by a memory node"):
        sample_custom(guider=guider)
