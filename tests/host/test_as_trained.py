"""A window node that takes what the checkpoint of its model was trained to look back at."""

import pytest
import seen
import tiny
import torch
from families import FILES
from loading import load, saved
from runs import sample

from relax_memory.host.options import options_of
from relax_memory.recipes import RECIPES


def remembering(model, **widgets):
    """The model after the node, and what the node says."""
    with seen.node() as browser:
        widgets = {"sink_frames": 1, "window_frames": 5, "rope": "absolute"} | widgets
        (model,) = tiny.node("RelaxForcingWindowMemory", model=model, **widgets)
    return model, browser.texts


def settings(model):
    policy = options_of(model).policy
    return policy.sink_frames, policy.window_frames, policy.rope


def made_for(folder, family, **options):
    content = next(iter(FILES["Self Forcing"].values()))
    return load(saved(folder, content, "model.pt"), family=family, **options)


TRAINED = {
    "Self Forcing": (0, 18, "As Self Forcing was trained: sink_frames 0 and window_frames 18"),
    "Causal Forcing frame-wise": (0, 20, "sink_frames 0 and window_frames 20"),
    "Self Gradient Forcing frame-wise": (4, 16, "sink_frames 4 and window_frames 16"),
    "rCM chunk-wise": (0, 18, "rCM chunk-wise was trained (inferred from others of its kind)"),
}


@pytest.mark.parametrize("family", TRAINED)
def test_the_recipe_is_taken_instead_of_the_widgets(model_folder, family):
    sinks, window, words = TRAINED[family]
    model, texts = remembering(made_for(model_folder, family), as_trained=True)
    assert settings(model) == (sinks, window, "absolute")
    assert len(texts) == 1 and words in texts[0]
    assert "left out" not in texts[0]


LEFT_OUT = {
    "Reward Forcing": (3, 3, "its 3 sinks are averages of all that left the window, which is left"),
    "MemFlow": (3, 6, "it also recalls 3 frames from a bank, which is left out here"),
    "LongLive": (3, 6, "As LongLive was trained: sink_frames 3 and window_frames 6"),
    "Infinite Forcing": (1, 6, "sink_frames 1 and window_frames 6"),
}


@pytest.mark.parametrize("family", LEFT_OUT)
def test_what_is_no_window_is_named(model_folder, family):
    sinks, window, words = LEFT_OUT[family]
    ((name, content), *_) = FILES[family].items()
    (model_folder / name).parent.mkdir(exist_ok=True)
    model, texts = remembering(load(saved(model_folder, content, name)), as_trained=True)
    assert settings(model) == (sinks, window, "absolute")
    assert words in texts[0]


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (
            "Causal Forcing long video",
            "long video has no plain window (its own memory is a window that rolls",
        ),
        (None, "What this checkpoint was trained to look back at is not known: sink_frames and"),
    ],
)
def test_where_there_is_no_window_the_widgets_are_used(model_folder, family, words):
    model = made_for(model_folder, family) if family else tiny.model()
    model, texts = remembering(model, as_trained=True)
    assert settings(model) == (1, 5, "absolute")
    assert words in texts[0]


def test_the_videos_are_those_of_the_widgets(model_folder):
    model = made_for(model_folder, "Causal Forcing frame-wise")
    trained, _ = remembering(model, as_trained=True)
    same, texts = remembering(model, sink_frames=0, window_frames=20)
    other, _ = remembering(model)
    assert texts == []
    long = {"length": 97, "frames_per_chunk": 1, "steps": 1}
    assert torch.equal(sample(model=trained, **long), sample(model=same, **long))
    assert not torch.equal(sample(model=trained, **long), sample(model=other, **long))


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.family for recipe in RECIPES])
def test_memory_that_is_no_window_says_what_it_is(recipe):
    known = recipe.sinks is not None and recipe.past is not None
    assert known or recipe.memory_note
    assert not known or recipe.past > 0  # 0 would be everything
