"""A film goes on with the prompts that it was begun with, of whichever shot they are."""

import dataclasses
import functools
import logging
import re

import folder_paths
import pytest
import tiny
import torch

from demo.bundle import load_clip
from demo.text import COLOURS, SHAPES
from relax_memory.host.directed import KEY, encoded
from relax_memory.host.keeping.autosave import archive_folder
from relax_memory.host.model.attention import with_memory
from relax_memory.host.request import make_request
from relax_memory.host.sampling.generate import generate
from relax_memory.host.steering.desk import Desk, Wish
from relax_memory.host.steering.source import with_source
from relax_memory.policies import RelaxedMemory
from relax_memory.saved.archive import saved_rollouts

MODEL = tiny.model(dim=128, layers=2)
CLIP = functools.cache(load_clip)
RED, BLUE, GREEN, WHITE = "a red circle", "a blue square", "a green triangle", "a white circle"
FILM = f"{RED} | {BLUE} | {GREEN}"
CHUNKS = 6
ROUNDING = 0.01


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    caplog.set_level(logging.INFO)


def directed(text, off=(), by=ROUNDING):
    """What Prompt Schedule gives of a text; prompts of the numbers `off` as another device has
    them.
    """
    told = {"text": text, "transition": "keep", "blend_seconds": 1.0}
    given = encoded(CLIP(), **told)
    film = given[0][1][KEY]
    prompts = tuple(_off(p, by) if i in off else p for i, p in enumerate(film.prompts))
    ((_, options, *rest),) = given
    options = options | {KEY: dataclasses.replace(film, prompts=prompts)}
    return with_source([[prompts[0][0][0], options, *rest]], clip=CLIP(), node_id="5", **told)


def _off(prompt, by):
    ((embedding, *rest),) = prompt
    noise = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(9))
    length = embedding.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    return [[embedding + by * length * noise, *rest]]


def request(positive, negative=None, autosave=True, **settings):
    asked = {"width": 32, "height": 32, "seed": 7, "steps": 2, "cfg": 1.0, "batch_size": 1}
    asked |= {"frames_per_chunk": 3, "length": 12 * CHUNKS - 3, "autosave": autosave}
    if negative is not None:
        asked |= {"negative": negative, "cfg": 3.0}
    model = with_memory(MODEL, RelaxedMemory())
    return make_request(model=model, positive=positive, **asked | settings)


def made(*given, **settings):
    return generate(request(*given, **settings))[0]


class Stop(Exception):
    """After so many chunks."""

    def __init__(self, chunks):
        self.chunks = chunks

    def keep(self, finished):
        if finished.chunk.film_index + 1 == self.chunks:
            raise self


def stopped(*given, chunks, **settings):
    with pytest.raises(Stop):
        generate(request(*given, **settings), Stop(chunks))
    return {path.name for rollout in saved_rollouts(archive_folder()) for path in rollout.files}


def is_taken(caplog, names):
    told = rf"with {names} as saved: what is connected now differs by [0-9.]+ % at most"
    assert re.search(told, caplog.text)


@pytest.mark.parametrize("chunks", [1, 4, CHUNKS])
@pytest.mark.parametrize("off", [{1}, {2}, {0, 1, 2}], ids=str)
def test_prompts_of_any_shot_are_taken_as_saved(caplog, chunks, off):
    before = stopped(directed(FILM), chunks=chunks)
    latents = made(directed(FILM, off))
    assert torch.equal(latents, made(directed(FILM), autosave=False))
    (rollout,) = saved_rollouts(archive_folder())
    assert before <= {path.name for path in rollout.files}
    is_taken(caplog, "positive")


def test_the_prompts_of_both_conditionings_are_looked_at_each_by_itself(caplog):
    negative = f"{WHITE} | {GREEN} | {BLUE}"
    stopped(directed(FILM), directed(negative), chunks=5)
    latents = made(directed(FILM, {2}), directed(negative, {1}))
    assert torch.equal(latents, made(directed(FILM), directed(negative), autosave=False))
    assert len(saved_rollouts(archive_folder())) == 1
    is_taken(caplog, "positive and negative")


def test_words_that_change_in_one_shot_leave_the_others_as_saved(caplog):
    before = stopped(directed(FILM), chunks=CHUNKS)
    other = f"{RED} | {BLUE} | {WHITE}"
    latents = made(directed(other, {0, 1}))
    assert torch.equal(latents, made(directed(other), autosave=False))
    assert len({path.name for path in saved_rollouts(archive_folder())[0].files} & before) == 4
    is_taken(caplog, "positive")


def test_words_are_found_in_whichever_rollout_of_the_same_beginning_has_them():
    made(directed(FILM))
    made(directed(f"{RED} | {WHITE} | {GREEN}"))
    count = len(saved_rollouts(archive_folder()))
    latents = made(directed(FILM, {1}))
    assert len(saved_rollouts(archive_folder())) == count
    assert torch.equal(latents, made(directed(FILM), autosave=False))


def test_words_that_are_new_when_a_run_goes_on_are_kept_too(caplog):
    stopped(directed(FILM), chunks=2)
    other = f"{RED} | {WHITE} | {GREEN}"
    stopped(directed(other), chunks=3)
    latents = made(directed(other, {1, 2}))
    assert len(saved_rollouts(archive_folder())) == 1
    assert torch.equal(latents, made(directed(other), autosave=False))
    is_taken(caplog, "positive")


def test_more_than_rounding_is_another_prompt():
    before = stopped(directed(FILM), chunks=CHUNKS)
    latents = made(directed(FILM, {1}, by=0.06))
    assert torch.equal(latents, made(directed(FILM, {1}, by=0.06), autosave=False))
    newest = saved_rollouts(archive_folder())[0]
    assert len({path.name for path in newest.files} & before) == 2


def test_a_film_of_twelve_shots_goes_on_with_all_its_prompts(caplog):
    shots = [f"a {colour} {shape}" for shape in SHAPES[:2] for colour in COLOURS]
    text, length = " | ".join(shots), {"length": 12 * 14 - 3}
    stopped(directed(text), chunks=13, **length)
    latents = made(directed(text, range(12)), **length)
    assert "Continues after 13 of 14 saved chunks" in caplog.text
    assert torch.equal(latents, made(directed(text), autosave=False, **length))


def test_words_of_a_steered_video_are_taken_as_saved(caplog):
    desk = Desk(request(directed(RED + " | " + GREEN)))

    class Editor:
        def keep(self, finished):
            if finished.chunk.film_index == 1:
                self.text = desk.direct(Wish(text=BLUE))["text"]
            if finished.chunk.film_index == 4:
                raise Stop(5)

    editor = Editor()
    with pytest.raises(Stop):
        generate(desk.request, editor, desk=desk)
    latents = made(directed(editor.text, range(3)))
    assert len(saved_rollouts(archive_folder())) == 1
    assert torch.equal(latents, made(directed(editor.text), autosave=False))
    is_taken(caplog, "positive")
