"""The contact sheet: pictures of the videos themselves, and the numbers to choose by."""

import folder_paths
import numpy as np
import pytest
import tiny
import tiny_vae
import torch
from nodes import LatentFromBatch

from relax_memory.film.background import to_bytes
from relax_memory.host.film import auditions
from relax_memory.host.film.auditions import contact_sheet
from relax_memory.host.film.cuts import KEY, Take, latent_of
from relax_memory.picture.contact import ASPECT, MOST_PIXELS, PICTURES, Audition, draw_sheet
from relax_memory.scenes import WHOLE

CODE = np.array([2**16, 2**8, 1], np.uint32)  # of a colour as one number


@pytest.fixture
def shown(monkeypatch):
    """What the sheet was drawn of."""
    drawn = []
    draw = auditions.draw_sheet
    monkeypatch.setattr(auditions, "draw_sheet", lambda of: drawn.extend(of) or draw(of))
    return drawn


def latent(frames=3, batch=1, seed=7, **more):
    made = tiny_vae.latents(frames, batch=batch, seed=seed)
    return latent_of(made, WHOLE, Take(seed=seed)) | more


@pytest.mark.parametrize("frames", [1, 2, 3, 21])
def test_pictures_are_the_hosts_from_first_to_last(shown, frames):
    given = latent(frames, batch=2)
    contact_sheet(tiny_vae.vae(), [given])
    with torch.inference_mode():
        decoded = [tiny_vae.vae().decode(one) for one in given["samples"].split(1)]
    pictures = to_bytes(torch.cat(decoded))
    last = pictures.shape[1] - 1
    for sample_, audition in zip(pictures, shown, strict=True):
        assert len(audition.pictures) == min(PICTURES, last + 1)
        for picture, at in zip(audition.pictures, (0, 1 / 3, 2 / 3, 1), strict=False):
            assert np.array_equal(picture, sample_[round(at * last)])


def test_numbers_are_those_of_the_batch_or_of_the_list_and_each_has_its_seed(shown):
    contact_sheet(tiny_vae.vae(), [latent(batch=3)])
    contact_sheet(tiny_vae.vae(), [latent(seed=5), latent(batch=2, seed=6)])
    contact_sheet(tiny_vae.vae(), [LatentFromBatch().frombatch(latent(batch=4), 2, 2)[0]])
    contact_sheet(tiny_vae.vae(), [{"samples": tiny_vae.latents(1)}])
    assert [(a.number, a.seed) for a in shown] == [
        *((1, 7), (2, 7), (3, 7)),
        *((1, 5), (2, 6), (3, 6)),
        *((3, 7), (4, 7)),
        (1, None),
    ]


def test_a_sampler_and_resume_tell_the_seed(shown, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    inputs = {"model": tiny.remembering(), "positive": tiny.conditioning(1), "seed": 11}
    inputs |= {"width": 32, "height": 32, "length": 9, "steps": 1, "cfg": 1.0}
    inputs |= {"frames_per_chunk": 3, "batch_size": 2, "autosave": True}
    made = tiny.node("RelaxForcingSampler", **inputs)[0]
    (name,) = (path.name for path in (tmp_path / "relax_forcing").iterdir())
    resumed = tiny.node("RelaxForcingResume", rollout=name, sample=2)[0]
    vae = tiny_vae.vae()
    contact_sheet(vae, [made, resumed])
    (sheet,) = tiny.node("RelaxForcingContactSheet", samples=[made], vae=[vae])
    assert sheet.ndim == 4
    assert sheet.shape[0] == 1
    assert 0 <= sheet.min() < sheet.max() <= 1
    assert [audition.seed for audition in shown] == [11, 11, 11]


def test_latents_that_are_cut_are_decoded_by_their_pieces_and_others_refused():
    with pytest.raises(ValueError, match="another node has shortened or joined its latents"):
        contact_sheet(tiny_vae.vae(), [latent(3, **{KEY: ((0, 3), (1, 3))})])
    with pytest.raises(ValueError, match="samples has 8 channels"):
        contact_sheet(tiny_vae.vae(), [{"samples": torch.zeros(1, 8, 1, 4, 4)}])


@pytest.mark.parametrize(("width", "height"), [(832, 480), (480, 832), (64, 64), (1280, 16)])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 40])
def test_every_picture_is_on_the_sheet_whole_and_the_sheet_of_a_size_to_look_at(
    count, width, height
):
    colours = [(255 - 3 * number, 3 * number, 120) for number in range(count)]
    given = [
        Audition(number=number + 1, seed=2**63, pictures=[_plain(width, height, colour)] * PICTURES)
        for number, colour in enumerate(colours)
    ]
    sheet = draw_sheet(given)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] * sheet.shape[1] <= MOST_PIXELS
    codes, counts = np.unique(sheet.astype(np.uint32) @ CODE, return_counts=True)
    found = dict(zip(codes, counts, strict=True))
    areas = [found[np.array(colour) @ CODE] for colour in colours]
    assert min(areas) == max(areas) > 1000
    if count > 7 and width != 1280:
        assert ASPECT / 2 < sheet.shape[1] / sheet.shape[0] < ASPECT * 2


def _plain(width, height, colour):
    return np.full((height, width, 3), colour, np.uint8)
