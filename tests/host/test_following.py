"""A sampler with 0 in its widgets runs a checkpoint as it was made to be run."""

import pytest
import tiny
import torch
from families import FILES
from loading import load, saved
from runs import sample_custom

from relax_memory.host.following import follow

FOUR = torch.tensor([1.0, 0.9375, 5 / 6, 0.625, 0.0])
TWO = torch.tensor([1.0, 5 / 6, 0.0])
SIZE = {"width": 32, "height": 32, "seed": 3, "cfg": 1.0, "batch_size": 1, "autosave": False}


@pytest.fixture
def quick(model_folder):
    (content,) = FILES["Causal Forcing++ 2-step"].values()
    return load(saved(model_folder, content, "framewise-2step.pt"))


def video(model, length=13, steps=0, frames_per_chunk=0, **more):
    inputs = {"positive": tiny.conditioning(1), "length": length, "steps": steps} | SIZE | more
    inputs |= {"model": model, "frames_per_chunk": frames_per_chunk}
    return tiny.node("RelaxForcingSampler", **inputs)[0]["samples"]


def test_a_two_step_checkpoint_takes_four_steps_for_its_first_chunk(quick):
    followed = video(quick)
    own = {"steps": 2, "frames_per_chunk": 1, "sigmas": TWO}
    assert torch.equal(followed, video(quick, **own, sigmas_first=FOUR))
    assert not torch.equal(followed, video(quick, **own))
    first = video(quick, length=1, steps=4, frames_per_chunk=1, sigmas=FOUR)
    assert torch.equal(followed[:, :, :1], first)
    assert torch.equal(followed, video(quick, **own, prefix={"samples": first}))


def test_a_prefix_leaves_no_chunk_without_a_past(quick):
    prefix = {"samples": video(quick, length=1)}
    own = {"steps": 2, "frames_per_chunk": 1, "sigmas": TWO, "prefix": prefix}
    assert torch.equal(video(quick, prefix=prefix), video(quick, **own))


def test_autosave_continues_a_first_schedule_and_tells_it_from_none(quick, tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.output_directory", str(tmp_path))
    whole = video(quick, autosave=True)
    assert torch.equal(video(quick, length=9, autosave=True), whole[:, :, :3])
    assert torch.equal(video(quick, autosave=True), whole)
    own = {"steps": 2, "frames_per_chunk": 1, "sigmas": TWO, "autosave": True}
    assert not torch.equal(video(quick, **own), whole)


def test_first_levels_that_begin_elsewhere_are_refused(quick):
    with pytest.raises(ValueError, match=r"sigmas_first begin at 1, but later chunks at 0\.9995"):
        video(quick, sigmas=torch.tensor([0.9995, 0.5, 0.0]), sigmas_first=FOUR)
    with pytest.raises(ValueError, match="sigmas_first are .* must descend"):
        video(quick, sigmas_first=torch.tensor([1.0, 0.5]))


def settings(model, steps=0, frames_per_chunk=0):
    return follow(
        model, steps=steps, frames_per_chunk=frames_per_chunk, sigmas=None, sigmas_first=None
    )


def test_without_a_recipe_it_is_three_and_four_and_said():
    followed, notes = settings(tiny.model())
    assert (followed["frames_per_chunk"], followed["steps"], followed["sigmas"]) == (3, 4, None)
    assert notes == [
        "How this checkpoint was made is not known: it is run with 3 frames a chunk and 4 steps."
    ]
    assert settings(tiny.model(), 4, 3)[1] == []


def test_what_was_set_against_the_recipe_is_said_in_one_line(quick):
    (line,) = settings(quick, 4, 3)[1]
    assert "Causal Forcing++ 2-step was not made for frames_per_chunk 3 instead of 1" in line
    assert "steps 4 instead of 2" in line


def test_a_shift_without_effect_is_said(model_folder):
    (content,) = FILES["OneForcing"].values()
    model = load(saved(model_folder, content, "one_forcing.pt"), shift=3.0)
    assert settings(model)[1][0].startswith("shift 3 has no effect")
    assert settings(model, steps=1)[1] == []


def custom(model, sigmas=TWO, **select):
    """Through the host's sampler: 4 latent frames."""
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", **select)
    latent = {"samples": torch.zeros(1, 16, 4, 4, 4)}
    return sample_custom(latent, model=model, sampler=sampler, sigmas=sigmas)


def test_the_selected_sampler_follows_the_model_that_it_runs(quick):
    followed = custom(quick, frames_per_chunk=0)
    assert torch.equal(followed, custom(quick, frames_per_chunk=1, sigmas_first=FOUR))
    without = custom(quick, frames_per_chunk=1)
    assert not torch.equal(followed, without)
    four = custom(quick, FOUR, frames_per_chunk=1)
    assert torch.equal(followed[:, :, :1], four[:, :, :1])
    assert not torch.equal(followed[:, :, 1:], four[:, :, 1:])
    (remembering,) = tiny.node("RelaxForcingMemory", model=quick, **tiny.MEMORY)
    assert torch.equal(followed, custom(remembering, frames_per_chunk=0))


def test_the_selected_sampler_makes_chunks_of_three_where_nothing_is_known(caplog):
    model = tiny.remembering()
    followed = custom(model, FOUR, frames_per_chunk=0)
    assert "is not known: it is run with 3 frames a chunk and 4 steps" in caplog.text
    caplog.clear()
    assert torch.equal(followed, custom(model, FOUR, frames_per_chunk=3))
    assert not caplog.text


def test_sigmas_against_the_recipe_are_said(quick, caplog):
    custom(quick, FOUR, frames_per_chunk=3)
    assert "frames_per_chunk 3 instead of 1 and sigmas of 4 steps instead of 2" in caplog.text
    with pytest.raises(ValueError, match=r"sigmas_first begin at 1, but later chunks at 0\.9995"):
        custom(quick, torch.tensor([0.9995, 0.5, 0.0]), frames_per_chunk=1, sigmas_first=FOUR)


def test_first_levels_of_a_recipe_that_do_not_fit_the_sigmas_are_left_out_and_said(quick, caplog):
    other = torch.tensor([0.9995, 0.5, 0.0])
    followed = custom(quick, other, frames_per_chunk=0)
    assert "which begin at 1; sigmas begin at 0.9995 and are used for it too" in caplog.text
    assert torch.equal(followed, custom(quick, other, frames_per_chunk=1))
