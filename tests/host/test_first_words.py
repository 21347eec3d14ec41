"""The first words of a prompt, through the links of a workflow."""

import pytest
from comfy_api.latest._io import Hidden, HiddenHolder
from comfy_execution.utils import CurrentNodeContext

from relax_memory.host.first_words import first_words

FOX = "A red fox runs through deep snow, slowly, at dawn"
TREE = "A tree"


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def sampler(link):
    return {"9": node("RelaxForcingSampler", positive=link, negative=["2", 0], seed=1)}


CLIP = {"0": node("CLIPLoader", clip_name="text.safetensors", type="wan")}
ENCODERS = CLIP | {
    "1": node("CLIPTextEncode", text=FOX, clip=["0", 0]),
    "2": node("CLIPTextEncode", text="blurry", clip=["0", 0]),
}
FOUND = {
    "from the encoder": ENCODERS | sampler(["1", 0]),
    "through a node with both conditionings, in a subgraph": ENCODERS
    | {"5:3": node("WanImageToVideo", negative=["2", 0], positive=["1", 0], width=832)}
    | sampler(["5:3", 0]),
    "the first of two, through a node of another pack": ENCODERS
    | {"3": node("CLIPTextEncode", clip=["0", 0], text=TREE)}
    | {"4": node("ConditioningCombine", conditioning_1=["1", 0], conditioning_2=["3", 0])}
    | {"5": node("AnotherSwitch", on_true=["4", 0], flag=True)}
    | sampler(["5", 0]),
    "from a text of its own": CLIP
    | {"1": node("CLIPTextEncode", clip=["0", 0], text=["6", 0])}
    | {"6": node("PrimitiveStringMultiline", value=FOX)}
    | sampler(["1", 0]),
    "the first shot of a schedule": CLIP
    | {"1": node("RelaxForcingPromptSchedule", clip=["0", 0], text=f"[0s] {FOX}\n[5s #] {TREE}")}
    | sampler(["1", 0]),
    "the first of some shots": ENCODERS
    | {"3": node("CLIPTextEncode", clip=["0", 0], text=TREE)}
    | {"4": node("RelaxForcingShot", conditioning=["1", 0], start_seconds=0.0, scene="")}
    | {"5": node("RelaxForcingShot", conditioning=["3", 0], scene="wood", before=["4", 0])}
    | sampler(["5", 0]),
    "behind an empty one": CLIP
    | {"1": node("CLIPTextEncode", clip=["0", 0], text=" ")}
    | {"3": node("CLIPTextEncode", clip=["0", 0], text=FOX)}
    | {"4": node("ConditioningConcat", conditioning_to=["1", 0], conditioning_from=["3", 0])}
    | sampler(["4", 0]),
}
NONE = {
    "no text": {"1": node("LoadTrainingDataset", folder_name="foxes")} | sampler(["1", 1]),
    "a circle": {"1": node("Reroute", any=["3", 0]), "3": node("Reroute", any=["1", 0])}
    | sampler(["1", 0]),
    "a node that is not there": sampler(["1", 0]),
    "not connected": {"9": node("RelaxForcingSampler", seed=1)},
    "another workflow": ENCODERS,
    "no workflow": None,
}


def words_of(prompt):
    with CurrentNodeContext("job", "9"):
        return first_words(HiddenHolder.from_dict({Hidden.prompt: prompt}))


@pytest.mark.parametrize("prompt", FOUND.values(), ids=FOUND.keys())
def test_the_words_that_reach_positive_are_found(prompt):
    assert words_of(prompt) == "A red fox runs through deep snow,"


@pytest.mark.parametrize("prompt", NONE.values(), ids=NONE.keys())
def test_where_no_text_reaches_it_there_are_none(prompt):
    assert words_of(prompt) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n\tb  \x1b[31mc\u202ed\x00", "a b [31mc d"),
        ("x" * 60 + " y", "x" * 40),
        (
            "extraordinary hippopotamuses gracefully swimming",
            "extraordinary hippopotamuses gracefully",
        ),
        ("\u72d0\u72f8 \U0001f98a", "\u72d0\u72f8 \U0001f98a"),
    ],
)
def test_they_are_whole_short_and_printable(text, words):
    assert words_of(CLIP | {"1": node("CLIPTextEncode", text=text)} | sampler(["1", 0])) == words


def test_outside_of_an_execution_there_are_none():
    assert first_words(None) == ""
