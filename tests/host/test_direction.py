"""Shots in a CONDITIONING: from a text and from conditionings, and what other nodes do to them."""

import json
import math

import nodes as host_nodes
import pytest
import seen
import tiny
import torch
from comfy_api.latest._io import Hidden
from comfy_execution.utils import CurrentNodeContext

from demo.bundle import load_clip
from relax_memory.direction.scenes import scenes_of
from relax_memory.host.directed import KEY, direction_of, with_direction

STORY = "[0s] a red circle\n[5s recache] a blue square\n[10s] a red circle"


class Counting:
    """The demo's text encoder; knows what it was asked."""

    def __init__(self):
        self.clip, self.texts = load_clip(), []

    def tokenize(self, text):
        self.texts.append(text)
        return self.clip.tokenize(text)

    def encode_from_tokens_scheduled(self, tokens):
        return self.clip.encode_from_tokens_scheduled(tokens)


def schedule(text=STORY, clip=None, transition="keep", blend_seconds=1.0):
    return tiny.node(
        "RelaxForcingPromptSchedule",
        clip=clip or load_clip(),
        text=text,
        transition=transition,
        blend_seconds=blend_seconds,
    )[0]


def shot(conditioning, start_seconds=0.0, transition="keep", blend_seconds=1.0, **inputs):
    return tiny.node(
        "RelaxForcingShot",
        conditioning=conditioning,
        start_seconds=start_seconds,
        transition=transition,
        blend_seconds=blend_seconds,
        **inputs,
    )[0]


def encode(text):
    return host_nodes.CLIPTextEncode().encode(load_clip(), text)[0]


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a[0], b[0]) and a[1].keys() == b[1].keys()
        for a, b in zip(one, other, strict=True)
    )


def cues(conditioning):
    return direction_of("positive", conditioning).script.cues


def test_every_shot_has_what_the_host_encodes_and_each_text_is_encoded_once():
    clip = Counting()
    directed = direction_of("positive", schedule(clip=clip, transition="blend", blend_seconds=2.0))
    assert clip.texts == ["a red circle", "a blue square"]
    assert [cue.text for cue in directed.script.cues] == [*clip.texts, clip.texts[0]]
    for cue, prompt in zip(directed.script.cues, directed.prompts, strict=True):
        assert same(prompt, encode(cue.text))
    assert (directed.transition, directed.blend_seconds) == ("blend", 2.0)


@pytest.mark.parametrize(
    "text", ["", "a red circle", "a (red:1.2) circle, [slow]: fast {now}\r\nso"]
)
def test_a_single_prompt_is_what_the_host_encodes(text):
    clip = Counting()
    given = schedule(text, clip)
    assert clip.texts == [text]
    assert same(given, encode(text))
    assert direction_of("positive", given) is None


def test_a_plain_node_sees_the_first_prompt_and_leaves_the_encoder_as_it_was():
    given = schedule()
    embedding, options = given[0]
    assert torch.equal(embedding, encode("a red circle")[0][0])
    assert KEY not in options[KEY].prompts[0][0][1]


def test_without_a_text_encoder_it_says_what_the_host_says():
    with pytest.raises(RuntimeError, match="clip input is invalid: None"):
        tiny.node(
            "RelaxForcingPromptSchedule", clip=None, text="a", transition="keep", blend_seconds=1.0
        )


def test_a_mistake_is_told_when_the_workflow_is_queued():
    validate = tiny.pack()["RelaxForcingPromptSchedule"].validate_inputs
    assert validate(text=STORY)
    assert validate(text=None)
    with pytest.raises(ValueError, match="text, line 2, column 2: 5 has no unit: write 5s"):
        validate(text="[0s] a\n[5] b")
    with pytest.raises(ValueError, match="text, line 2, column 2: 5 has no unit"):
        schedule("[0s] a\n[5] b")


def test_shots_in_a_row_are_a_schedule():
    red, blue, green = map(encode, ("red", "blue", "green"))
    given = shot(red)
    given = shot(blue, 5.0, "blend", 2.5, before=given)
    given = shot(red, 8.2, scene=" far  away ", remember_seconds=0.0, before=given)
    given = shot(green, 10.0, "cut", before=given)
    directed = direction_of("positive", given)
    assert [id(prompt) for prompt in directed.prompts] == list(map(id, (red, blue, red, green)))
    first, second, third, fourth = directed.script.cues
    assert [str(cue.start) for cue in directed.script.cues] == ["0s", "5s", "8.2s", "10s"]
    assert (second.transition, str(second.blend)) == ("blend", "2.5s")
    assert (third.transition, third.scene, str(third.moment)) == (None, "far away", "0s")
    assert (fourth.transition, fourth.scene, fourth.moment, fourth.blend) == ("cut",) + 3 * (None,)
    assert first.text == third.text
    assert len({cue.text for cue in directed.script.cues}) == 3


def test_a_shot_follows_on_a_schedule_and_on_a_plain_prompt():
    assert [cue.text for cue in cues(shot(encode("blue"), 12.0, before=schedule()))] == [
        "a red circle",
        "a blue square",
        "a red circle",
        "shot 4",
    ]
    assert [str(cue.start) for cue in cues(shot(encode("blue"), 1.5, before=encode("red")))] == [
        "0s",
        "1.5s",
    ]
    home = shot(encode("blue"), 1.0, scene="away", before=schedule("Scene home: red"))
    assert [cue.scene for cue in cues(shot(encode("red"), 2.0, scene="Home", before=home))] == [
        "home",
        "away",
        "Home",
    ]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: shot(encode("red"), 5.0), "start_seconds is 5, but no shot comes before"),
        (lambda: shot(schedule()), "conditioning carries shots already: connect it to before"),
        (lambda: shot(encode("red"), 4.0, before=schedule()), "shot at 4s: times go back"),
        (lambda: shot(encode("red"), 4.0, before=schedule("a | b")), "before has shots without a"),
        (
            lambda: shot(encode("red"), 4.0, remember_seconds=4.0, before=encode("red")),
            "@4s is not yet there: this shot begins at 4s",
        ),
        (
            lambda: shot(encode("red"), 4.0, "blend", scene="away", before=encode("red")),
            "shot at 4s: scene away begins with a cut, not with blend",
        ),
        (lambda: shot(encode("red"), transition="recache"), "nothing is before the first shot"),
        (
            lambda: shot(encode("red"), 4.0, before=schedule("[0s] a\n[2s-3s] b")),
            "shot at 4s: shots leave a gap",
        ),
        (lambda: shot(encode("red"), math.nan, before=encode("red")), "start_seconds is nan"),
        (lambda: shot(encode("red"), remember_seconds=math.inf), "remember_seconds is inf"),
        (lambda: shot(encode("red"), transition="fade"), 'transition is "fade": use keep, recache'),
        (lambda: shot(encode("red"), blend_seconds=0.0), "blend_seconds is 0: use 0.1 or more"),
        (lambda: schedule(blend_seconds=math.nan), "blend_seconds is nan: use 0.1 or more"),
        (lambda: schedule(transition="fade"), 'transition is "fade"'),
        (lambda: shot([]), "conditioning is empty: connect a prompt"),
        (lambda: shot(None), "conditioning is empty: connect a prompt"),
        (lambda: shot(encode("red"), 1.0, before=[]), "before is empty: connect a prompt"),
    ],
)
def test_a_shot_that_cannot_follow_is_refused(make, sentence):
    with pytest.raises(ValueError) as error:
        make()
    assert sentence in str(error.value)


@pytest.mark.parametrize("usual", ["keep", "recache", "blend", "cut"])
def test_a_shot_begins_as_it_says_whatever_those_of_a_schedule_do(usual):
    """What a schedule's own shots do that say nothing: "b" goes on in scene a, or cuts away."""
    before = schedule("Scene a: [0s] a\n[2s] b", transition=usual)
    for how in ("keep", "cut"):
        if (usual == "cut") < (how == "cut"):
            continue
        directed = direction_of("positive", shot(encode("red"), 4.0, how, scene="A", before=before))
        found = scenes_of(directed.script.cues, directed.transition)
        assert found[1:] == [(usual == "cut", usual), (0, "return" if usual == "cut" else "keep")]


def test_a_text_is_read_with_the_way_in_which_its_shots_begin():
    text = "Scene a: [0s] a\n[2s] b\n[4s cut] Scene a: c"
    validate = tiny.pack()["RelaxForcingPromptSchedule"].validate_inputs
    assert validate(text=text, transition="cut")
    assert validate(text=text)  # another node gives it
    assert cues(schedule(text, transition="cut"))[2].scene == "a"
    with pytest.raises(ValueError, match="line 3, column 1: scene a goes on here"):
        validate(text=text, transition="keep")
    with pytest.raises(ValueError, match='transition is "fade": use keep, recache, blend, cut'):
        validate(text=text, transition="fade")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0s: a cat, 5s: a dog", "One prompt for the whole video"),
        ("[0s] a cat", "One prompt for the whole video"),
        ("a | b | c", "3 shots"),
        ("a | b | c [#]", "3 shots in 2 scenes"),
        ("Scene of a city at night: neon, rain", "1 shot in 1 scene: of a city at night"),
        ("Scene a: x | Scene b: y | Scene a: z", "3 shots in 2 scenes: a, b"),
        (" | ".join(f"Scene {n}: x" for n in range(7)), "7 shots in 7 scenes: 0, 1, 2, 3, 4, ..."),
    ],
)
def test_the_node_says_how_it_understood_a_text(text, told):
    with seen.node() as browser:
        schedule(text)
    assert browser.texts == [told]


def changed(conditioning, **options):
    return [[entry, known | options] for entry, known in conditioning]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda given: host_nodes.ConditioningConcat().concat(given, encode("green")),
            "its prompt",
        ),
        (lambda given: host_nodes.ConditioningZeroOut().zero_out(given), "its prompt"),
        (
            lambda given: host_nodes.ConditioningCombine().combine(given, encode("a")),
            "2 entries for",
        ),
        (
            lambda given: host_nodes.ConditioningCombine().combine(encode("a"), given),
            "2 entries for",
        ),
        (
            lambda given: host_nodes.ConditioningSetArea().append(given, 64, 64, 0, 0, 1.0),
            "area, set_area_to_bounds, strength",
        ),
        (
            lambda given: host_nodes.ConditioningSetTimestepRange().set_range(given, 0.0, 0.5),
            "end_percent, start_percent",
        ),
        (lambda given: (changed(given, hooks=object()),), "hooks"),
    ],
)
def test_what_was_done_to_the_first_prompt_alone_is_refused(change, what):
    (given,) = change(schedule())
    with pytest.raises(ValueError, match="negative conditioning was changed after its shots") as e:
        direction_of("negative", given)
    assert f"({what}" in str(e.value)
    with pytest.raises(ValueError, match="before conditioning was changed"):
        shot(encode("red"), 20.0, before=given)


def mixed(node, first, second):
    """A workflow whose sampler (node 9) takes a prompt that `node` makes of two."""
    texts = {"1": "a cat", "2": "[0s] a cat\n[1s] a dog", "3": "Scene a: a cat"}
    prompt = {
        key: {
            "class_type": "RelaxForcingPromptSchedule",
            "inputs": {"clip": ["0", 1], "text": text},
        }
        for key, text in texts.items()
    }
    prompt["4"] = {"class_type": "RelaxForcingShot", "inputs": {"conditioning": ["1", 0]}}
    prompt["5"] = {"class_type": "RelaxForcingShot", "inputs": {"before": ["4", 0]}}
    both = {"conditioning_to": [first, 0], "conditioning_from": [second, 0]}
    prompt["6"] = {"class_type": node, "inputs": both}
    prompt["7"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}}
    prompt["9"] = {"class_type": "RelaxForcingSampler", "inputs": {"positive": ["7", 0]}}
    return prompt


def executed(prompt):
    cls = tiny.pack()["RelaxForcingSampler"]
    clone = cls.PREPARE_CLASS_CLONE({"hidden_inputs": {Hidden.prompt: prompt}})
    inputs = {"model": tiny.remembering(), "positive": tiny.conditioning(1), "length": 9, "seed": 0}
    inputs |= {"width": 32, "height": 32, "steps": 1, "frames_per_chunk": 3, "batch_size": 1}
    with CurrentNodeContext("prompt", "9"):
        return clone.EXECUTE_NORMALIZED(**inputs).result


@pytest.mark.parametrize("node", ["Concat", "Average"])
@pytest.mark.parametrize("second", ["2", "5"])
def test_shots_that_another_prompt_takes_the_first_of_are_refused(node, second):
    told = rf"conditioning_from of Conditioning \({node}\) \(node 6\) carries shots"
    with pytest.raises(ValueError, match=told):
        executed(mixed(f"Conditioning{node}", "1", second))


@pytest.mark.parametrize("second", ["1", "3", "4"])
def test_one_prompt_may_be_joined_to_another(second):
    assert executed(mixed("ConditioningConcat", "1", second))


def test_what_only_copies_is_followed():
    given = [[entry.clone(), dict(options)] for entry, options in schedule()]
    assert direction_of("positive", given).script == direction_of("positive", schedule()).script
    start_image = changed(given, concat_latent_image=torch.ones(1), concat_mask=torch.ones(1))
    assert direction_of("positive", start_image)


def test_two_schedules_in_one_are_refused():
    (given,) = host_nodes.ConditioningCombine().combine(schedule(), schedule())
    with pytest.raises(ValueError, match="positive conditioning carries two prompt schedules"):
        direction_of("positive", given)


def test_shots_of_different_numbers_of_entries_are_refused_by_name():
    two = encode("red") + encode("blue")
    given = shot(two, 5.0, before=encode("green"))
    with pytest.raises(ValueError, match="has 1 entries in its first shot but 2 in that at 5s"):
        direction_of("positive", given)
    both = shot([*two], 5.0, before=[*two])
    assert len(both) == 2
    assert direction_of("positive", both)


def test_a_conditioning_is_copied_and_carries_the_same():
    directed = direction_of("positive", schedule())
    again = with_direction(directed)
    assert direction_of("positive", again) is directed
    assert again[0][1] is not directed.prompts[0][0][1]


def test_bars_reach_the_node_as_they_are_written():
    """With dynamic prompts the browser would choose among {a|b}, and take a bar for its escape."""
    schema = tiny.pack()["RelaxForcingPromptSchedule"].GET_SCHEMA()
    (text,) = (entry for entry in schema.inputs if entry.id == "text")
    assert not json.loads(json.dumps(text.as_dict())).get("dynamicPrompts")
