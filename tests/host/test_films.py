"""Films through the real nodes: what each piece is bit for bit, and that no chunk is made twice."""

import dataclasses
import functools
import logging
import re
from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import crash_run
import folder_paths
import nodes as host_nodes
import pytest
import seen
import tiny
import torch
from comfy import hooks
from comfy.model_management import InterruptProcessingException
from runs import lora_of_one_layer

from demo.bundle import load_clip
from relax_memory.host.directed import direction_of, with_direction

CHUNKS, FRAMES = 6, 3  # of a film, and of a chunk
MODEL = tiny.model(dim=128, layers=2)
RED, BLUE, GREEN = "a red circle", "a blue square", "a green star"
TRANSITIONS = ("keep", "recache", "blend", "cut")
CLIP = functools.cache(load_clip)


def at(chunk, frames=FRAMES):
    """The time at which a chunk begins."""
    return f"{max(0, 4 * (chunk * frames - 1) + 1)}f"


def schedule(text, transition="keep", blend_seconds=1.0):
    settings = {"transition": transition, "blend_seconds": blend_seconds}
    return tiny.node("RelaxForcingPromptSchedule", clip=CLIP(), text=text, **settings)[0]


def script(*shots, frames=FRAMES):
    """`(first chunk, words, how it begins)` as people write it."""
    return "\n".join(f"[{at(chunk, frames)} {' '.join(how)}] {text}" for chunk, text, *how in shots)


@functools.cache
def encode(text):
    return host_nodes.CLIPTextEncode().encode(CLIP(), text)[0]


def shot(conditioning, chunk=0, transition="keep", **inputs):
    settings = {"transition": transition, "blend_seconds": 1.0} | inputs
    seconds = int(at(chunk)[:-1]) / 16
    return tiny.node(
        "RelaxForcingShot", conditioning=conditioning, start_seconds=seconds, **settings
    )[0]


def remembering(memory="RelaxForcingMemory", **settings):
    settings = tiny.MEMORY | settings if memory == "RelaxForcingMemory" else settings
    return tiny.node(memory, model=MODEL, **settings)[0]


def sample(positive, *, frames=None, **settings):
    """Latents of a small video of so many latent frames."""
    frames = frames or CHUNKS * FRAMES
    inputs = {"model": remembering(), "width": 32, "height": 32, "seed": 7, "steps": 2, "cfg": 1.0}
    inputs |= {"batch_size": 1, "frames_per_chunk": FRAMES, "autosave": False}
    inputs |= {"length": 4 * frames - 3, "positive": positive}
    return tiny.node("RelaxForcingSampler", **inputs | settings)[0]["samples"]


@functools.cache
def plain(text=RED, **settings):
    return sample(encode(text), **settings)


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [RED, f"[0s] {RED}", f"Scene one: {RED}", f"{RED} | {RED}"])
def test_one_prompt_is_the_plain_video(text):
    assert torch.equal(sample(schedule(text)), plain())


@pytest.mark.parametrize("transition", TRANSITIONS[:3])
def test_shots_of_the_same_words_are_one(transition):
    assert torch.equal(sample(schedule(script((0, RED), (3, RED, transition)))), plain())
    both = shot(encode(RED), 3, transition, before=encode(RED))
    assert torch.equal(sample(both), plain())


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_nothing_changes_before_a_shot(transition):
    film = sample(schedule(script((0, RED), (3, BLUE)), transition))
    assert torch.equal(film[:, :, :9], plain()[:, :, :9])
    assert not torch.equal(film[:, :, 9:12], plain()[:, :, 9:12])
    both = shot(encode(BLUE), 3, transition, before=shot(encode(RED)))
    assert torch.equal(sample(both), film)


# --- scenes ---------------------------------------------------------------------------------------

GUIDED = {"cfg": 3.0, "batch_size": 2}


@pytest.mark.parametrize("settings", [{}, GUIDED, {"frames": 16}], ids=["1", "3", "trimmed"])
def test_a_scene_is_the_plain_video_of_its_seed(settings):
    if "cfg" in settings:
        settings = settings | {"negative": encode(GREEN)}
    film = sample(schedule(script((0, RED), (2, BLUE, "cut"), (4, GREEN, "#"))), **settings)
    frames = settings.get("frames", 18)
    scenes = (RED, 7, 6), (BLUE, 8, 6), (GREEN, 9, frames - 12)
    made = [
        sample(encode(text), **settings | {"seed": seed, "frames": count})
        for text, seed, count in scenes
    ]
    assert torch.equal(film, torch.cat(made, dim=2))


def test_seeds_of_scenes_begin_anew_after_the_last():
    film = sample(schedule(script((0, RED), (2, BLUE, "cut"))), frames=9, seed=2**64 - 1)
    assert torch.equal(film[:, :, 6:], sample(encode(BLUE), frames=3, seed=0))


WINDOW = {"memory": "RelaxForcingWindowMemory", "sink_frames": 1, "window_frames": 4}
FIRST = torch.tensor([1.0, 0.95, 0.9, 0.5, 0.0])
CASES = {
    "plain": dict,
    "batch of 2, guided": lambda: GUIDED | {"negative": encode(GREEN)},
    "host memory": lambda: {"model": remembering(reservoir_device="cpu")},
    "fp8": lambda: {"model": remembering(reservoir_dtype="fp8")},
    "evicting": lambda: {"model": remembering(reservoir_frames=7)},
    "evicting, host memory, fp8": lambda: {
        "model": remembering(reservoir_frames=7, reservoir_device="cpu", reservoir_dtype="fp8")
    },
    "absolute": lambda: {"model": remembering(rope="absolute")},
    "window": lambda: {"model": remembering(**WINDOW, rope="hybrid")},
    "frame by frame": lambda: {"frames_per_chunk": 1, "frames": 12},
    "no clean pass": lambda: {"clean_pass": "never"},
    "first levels": lambda: {"sigmas_first": FIRST},
    "from 3 frames": lambda: {"prefix": {"samples": plain(GREEN)[:, :, :3]}},
}


@pytest.fixture
def no_room_to_wait(monkeypatch):
    """Host memory is full, so scenes keep only their latents while they are away."""
    monkeypatch.setattr(tiny.part("host.room.parking"), "SHARE", 0.0)


def passes_of(make):
    """How often the model runs, and what is made."""
    calls = []
    hook = MODEL.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        made = make()
    finally:
        hook.remove()
    return len(calls), made


@pytest.mark.parametrize("name", CASES)
def test_a_scene_that_waited_is_the_one_that_is_made_again(name, request):
    settings = {"frames": 27} | CASES[name]()
    n = settings.get("frames_per_chunk", FRAMES)
    home, away = f"Scene home: {RED}", f"Scene away: {BLUE}"
    how = "keep" if "clean_pass" in settings else "recache"
    shots = (0, home), (3, away), (4, GREEN, how), (5, home, f"@{at(1, n)}"), (6, away), (7, home)
    film = schedule(script(*shots, frames=n))
    passes, waited = passes_of(lambda: sample(film, **settings))
    request.getfixturevalue("no_room_to_wait")
    more, again = passes_of(lambda: sample(film, **settings))
    assert torch.equal(waited, again)
    assert passes < more


@pytest.mark.parametrize("name", CASES)
def test_there_and_back_again_is_each_scene_uninterrupted(name):
    settings = {"frames": 27} | CASES[name]()
    n = settings.get("frames_per_chunk", FRAMES)
    total = settings.pop("frames") // n
    home, away = f"Scene home: {RED}", f"Scene away: {BLUE}"
    ends = (0, 2, 4, total - 2, total - 1, total)
    text = script(*zip(ends[:-1], (home, away, home, away, home), strict=True), frames=n)
    film = sample(schedule(text), **settings, frames=total * n)
    pieces = [film[:, :, n * a : n * b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    for words, seed, own in ((RED, 7, pieces[::2]), (BLUE, 8, pieces[1::2])):
        made = torch.cat(own, dim=2)
        alone = settings if words == RED else {k: v for k, v in settings.items() if k != "prefix"}
        alone = alone | {"seed": seed, "frames": made.shape[2]}
        assert torch.equal(made, sample(encode(words), **alone)), words


def test_words_change_within_a_scene_that_comes_back():
    text = script((0, f"Scene a: {RED}"), (2, f"Scene b: {BLUE}"), (3, f"Scene a: {GREEN}"))
    film = sample(schedule(text), frames=15)
    alone = sample(schedule(script((0, RED), (2, GREEN))), frames=12)
    assert torch.equal(torch.cat([film[:, :, :6], film[:, :, 9:]], dim=2), alone)


def test_a_scene_with_a_lora_is_the_plain_video_with_it():
    group = hooks.create_hook_lora(lora_of_one_layer(128), 0.8, 1.0)
    blue = hooks.set_hooks_for_conditioning(encode(BLUE), group)
    film = shot(encode(RED), scene="a")
    film = shot(blue, 2, "cut", scene="b", before=film)
    film = sample(shot(encode(RED), 4, "cut", scene="a", before=film))
    assert torch.equal(torch.cat([film[:, :, :6], film[:, :, 12:]], 2), plain()[:, :, :12])
    alone = sample(blue, frames=6, seed=8)
    assert torch.equal(film[:, :, 6:12], alone)
    assert not torch.equal(alone, sample(encode(BLUE), frames=6, seed=8))


# --- a negative with words of its own -------------------------------------------------------------


def test_a_negative_has_shots_of_its_own():
    never = {"cfg": 3.0, "frames": 12}
    film = sample(encode(RED), negative=schedule(script((0, GREEN), (2, BLUE))), **never)
    green = sample(encode(RED), negative=encode(GREEN), **never)
    assert torch.equal(film[:, :, :6], green[:, :, :6])
    assert not torch.equal(film[:, :, 6:9], green[:, :, 6:9])
    same = schedule(script((0, GREEN), (2, GREEN, "recache")))
    assert torch.equal(sample(encode(RED), negative=same, **never), green)
    both = sample(
        schedule(script((0, RED), (2, RED, "keep"))),
        negative=schedule(script((0, GREEN), (2, BLUE))),
        **never,
    )
    assert torch.equal(both, film)


def test_shots_of_a_negative_in_a_scene_are_those_of_the_plain_video():
    positive = schedule(script((0, RED), (2, BLUE, "cut")))
    film = sample(positive, negative=schedule(script((0, GREEN), (3, RED))), cfg=3.0, frames=15)
    alone = schedule(script((0, GREEN), (1, RED)))
    alone = sample(encode(BLUE), negative=alone, cfg=3.0, seed=8, frames=9)
    assert torch.equal(film[:, :, 6:], alone)


def test_a_negative_whose_words_are_zeroed_has_no_shots():
    """As workflows make it of the positive; zeros of any number of tokens are the same."""
    zero, never = host_nodes.ConditioningZeroOut().zero_out, {"cfg": 3.0, "frames": 12}
    positive = schedule(script((0, RED), (2, f"{BLUE} and {GREEN}", "cut")))
    film = sample(positive, negative=zero(positive)[0], **never)
    assert torch.equal(film, sample(positive, negative=zero(encode(f"{BLUE} {GREEN}"))[0], **never))
    said = schedule(script((0, "nothing that this world knows"), (2, BLUE)))
    assert not said[0][0].any()
    assert not torch.equal(film, sample(positive, negative=said, **never))


def test_without_guidance_a_negative_and_its_shots_decide_nothing():
    assert torch.equal(sample(encode(RED), negative=schedule(f"{GREEN} | {BLUE}")), plain())


# --- autosave -------------------------------------------------------------------------------------


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


def saved():
    return crash_run.saved_files(Path(folder_paths.get_output_directory()))


@contextmanager
def stopped_after(chunks):
    """The run is interrupted in the first pass after so many chunks are saved."""

    def stop(*_):
        if len(saved()) == chunks:
            comfy.model_management.interrupt_current_processing()

    hook = MODEL.model.diffusion_model.register_forward_pre_hook(stop)
    try:
        with pytest.raises(InterruptProcessingException):
            yield
    finally:
        hook.remove()


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name.endswith("autosave")]


BACK = (0, f"Scene a: {RED}"), (2, f"Scene b: {BLUE}"), (4, f"Scene a: {RED}")
FILMS = {t: script((0, RED), (2, BLUE, t), (4, RED, t)) for t in TRANSITIONS}
FILMS |= {
    "return": script(*BACK),
    "return with other words": script(*BACK[:2], (4, f"Scene a: {GREEN}")),
    "moment": script((0, RED), (2, BLUE), (4, RED, f"@{at(1)}")),
    "moment of another scene": script((0, RED), (3, BLUE, "cut", f"@{at(1)}"), (5, RED)),
    "moments of moments": script(
        (0, RED), (2, BLUE, "cut", f"@{at(1)}"), (3, GREEN, "cut", f"@{at(2)}"), (5, RED, "cut")
    ),
    "a moment within a later scene": script((0, RED), (2, BLUE, "cut"), (4, RED, f"@{at(1)}")),
    "scenes that remember each other": script(
        *(BACK[0], BACK[1], (3, BLUE, f"@{at(1)}"), (4, f"Scene a: {RED}", f"@{at(3)}"))
    ),
}
SAVING = {
    **{name: (text, {}) for name, text in FILMS.items()},
    "recache, guided": (FILMS["recache"], GUIDED),
    "return, guided": (FILMS["return"], GUIDED),
    "return, no clean pass": (FILMS["return"], {"clean_pass": "never"}),
    "return, first levels": (FILMS["return"], {"sigmas_first": FIRST}),
    "moments of moments, guided": (FILMS["moments of moments"], GUIDED),
    "moment of another scene, guided": (FILMS["moment of another scene"], GUIDED),
    "moment, no clean pass": (FILMS["moment of another scene"], {"clean_pass": "never"}),
}


@pytest.mark.parametrize("name", SAVING)
def test_a_film_goes_on_from_every_chunk(tmp_path, monkeypatch, name):
    text, settings = SAVING[name]
    if "cfg" in settings:
        settings = settings | {"negative": schedule(f"{GREEN} | {BLUE}", "recache")}
    film = sample(schedule(text), **settings)
    for chunks in range(1, CHUNKS):
        monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / str(chunks)))
        with stopped_after(chunks):
            sample(schedule(text), **settings, autosave=True)
        before = saved()
        assert len(before) == chunks
        assert torch.equal(sample(schedule(text), **settings, autosave=True), film), chunks
        assert before.items() <= saved().items()
        assert len(saved()) == CHUNKS


@pytest.mark.parametrize("name", FILMS)
def test_other_words_of_a_shot_keep_all_before_it(output, caplog, name):
    caplog.set_level(logging.INFO)
    text = FILMS[name]
    sample(schedule(text), autosave=True)
    (*before, last) = text.split("\n")
    start, words = last.rsplit(" a ", 1)
    changed = schedule("\n".join([*before, f"{start} a yellow {words}"]))
    caplog.clear()
    film = sample(changed, autosave=True)
    chunks = 5 if name.startswith("moment") and name != "moment" else 4
    assert f"Continues after {chunks} of 6 saved chunks" in said(caplog)[-1]
    assert len(saved()) == CHUNKS + CHUNKS
    assert torch.equal(film, sample(changed))


@pytest.mark.parametrize("transition", [*TRANSITIONS, "return"])
def test_words_that_change_at_any_chunk_keep_all_before_it(output, caplog, transition):
    caplog.set_level(logging.INFO)
    back = transition == "return"
    for chunk in range(1 + back, CHUNKS):
        for words in (BLUE, GREEN):
            film = script((0, RED), (chunk, words, transition))
            if back:  # the chunk before is of another scene
                home = f"Scene a: {RED}", f"Scene a: {words}"
                film = script((0, home[0]), (chunk - 1, f"Scene b: {RED}"), (chunk, home[1]))
            caplog.clear()
            short = {"steps": 1, "frames": FRAMES * (chunk + 1)}
            made = sample(schedule(film), **short, autosave=True)
        assert f"Continues after {chunk} of {chunk + 1} saved chunks" in said(caplog)[-1]
        assert torch.equal(made, sample(schedule(film), **short)), chunk


@pytest.mark.parametrize("name", FILMS)
def test_a_shot_is_added_to_a_finished_video(output, caplog, name):
    caplog.set_level(logging.INFO)
    assert torch.equal(sample(encode(RED), autosave=True), plain())
    caplog.clear()
    film = sample(schedule(FILMS[name]), autosave=True)
    chunks = 3 if name == "moment of another scene" else 2
    assert f"Continues after {chunks} of 6 saved chunks" in said(caplog)[-1]
    assert torch.equal(film, sample(schedule(FILMS[name])))


@pytest.mark.parametrize("name", FILMS)
def test_a_longer_film_begins_with_the_saved_one(output, caplog, name):
    caplog.set_level(logging.INFO)
    short = sample(schedule(FILMS[name]), autosave=True)
    caplog.clear()
    film = sample(schedule(FILMS[name]), frames=24, autosave=True)
    assert "6 of 8 chunks are there already" in said(caplog)[-1]
    assert torch.equal(film[:, :, :18], short)
    assert torch.equal(film, sample(schedule(FILMS[name]), frames=24))


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_equal_parts_move_with_the_length_and_keep_what_they_can(output, caplog, transition):
    caplog.set_level(logging.INFO)
    text = f"{RED} | {BLUE} | {GREEN}"
    sample(schedule(text, transition), autosave=True)
    caplog.clear()
    with seen.node() as browser:
        film = sample(schedule(text, transition), frames=27, autosave=True)
    assert "Continues after 2 of 9 saved chunks" in said(caplog)[-1]
    assert "; from 1.31 s on it begins anew, as shots have changed" in browser.texts[-1]
    assert torch.equal(film, sample(schedule(text, transition), frames=27))


def test_another_transition_keeps_all_before_it(output, caplog):
    caplog.set_level(logging.INFO)
    for transition in (*TRANSITIONS, f"cut @{at(1)}"):
        text = script((0, RED), (4, BLUE, transition))
        caplog.clear()
        film = sample(schedule(text), autosave=True)
        if transition != "keep":
            assert "Continues after 4 of 6 saved chunks" in said(caplog)[-1]
        assert torch.equal(film, sample(schedule(text))), transition


def test_changed_words_are_no_damage(output, caplog):
    caplog.set_level(logging.INFO)
    sample(schedule(FILMS["keep"]), autosave=True)
    caplog.clear()
    sample(schedule(script((0, RED), (2, GREEN), (4, RED))), autosave=True)
    (text,) = said(caplog)
    anew = "; from 1.31 s on it begins anew, as shots have changed"
    assert re.fullmatch(rf"Continues after 2 of 6 saved chunks \([^;]+\){anew}\.", text)


def test_a_negative_that_is_skipped_keeps_no_chunk_from_being_found(output, caplog):
    caplog.set_level(logging.INFO)
    sample(encode(RED), autosave=True)
    caplog.clear()
    sample(encode(RED), negative=schedule(FILMS["recache"]), autosave=True)
    assert "All 6 chunks are saved already" in said(caplog)[-1]


def rounded(conditioning):
    """Shots whose prompts were encoded on another device."""
    directed = direction_of("positive", conditioning)
    prompts = [[[t * (1 + 1e-3), o] for t, o in prompt] for prompt in directed.prompts]
    return with_direction(dataclasses.replace(directed, prompts=tuple(prompts)))


@pytest.mark.parametrize("name", ["keep", "blend", "return with other words"])
def test_prompts_that_differ_by_rounding_are_taken_as_saved(output, caplog, name):
    caplog.set_level(logging.INFO)
    guided = {"cfg": 3.0, "negative": schedule(f"{GREEN} | {BLUE}")}
    film = sample(schedule(FILMS[name]), **guided)
    with stopped_after(5):
        sample(schedule(FILMS[name]), **guided, autosave=True)
    again = {"cfg": 3.0, "negative": rounded(guided["negative"]), "autosave": True}
    caplog.clear()
    assert torch.equal(sample(rounded(schedule(FILMS[name])), **again), film)
    assert len(saved()) == CHUNKS
    assert re.search(
        r"Continues after 5 of 6 saved chunks \(.+\), with positive and negative as saved: "
        r"what is connected now differs by 0\.[0-9]+ % at most",
        said(caplog)[0],
    )
    last = FILMS[name].rpartition(" a ")[0] + " a purple circle"
    caplog.clear()
    film = sample(rounded(schedule(last)), **again)
    assert "Continues after 4 of 6 saved chunks" in said(caplog)[0]


# --- what cannot be made, and what is said --------------------------------------------------------


def with_options(text, **options):
    return [[embedding, known | options] for embedding, known in encode(text)]


AREA = {"area": (2, 2, 0, 0), "strength": 1.0}
WRONG = {
    "negative with a cut": (
        lambda: {"cfg": 3.0, "negative": schedule(script((0, GREEN), (2, BLUE, "cut")))},
        "negative makes a cut or names a moment in shot 2",
    ),
    "negative with a moment": (
        lambda: {"cfg": 3.0, "negative": schedule(script((0, GREEN), (2, BLUE, "@0s")))},
        "negative makes a cut or names a moment in shot 2",
    ),
    "recache without clean passes": (
        lambda: {"positive": schedule(FILMS["recache"]), "clean_pass": "never"},
        "shot 2 of positive begins with recache",
    ),
    "other areas": (
        lambda: {"positive": shot(with_options(BLUE, **AREA), 2, before=encode(RED))},
        "shot 2 of positive has other areas than the first one",
    ),
    "blend of more than words": (
        lambda: {
            "positive": shot(with_options(BLUE, strength=0.5), 2, "blend", before=encode(RED))
        },
        r"shot 2 of positive blends .* not only their words differ \(strength\)",
    ),
    "changed later": (
        lambda: {
            "positive": host_nodes.ConditioningSetTimestepRange().set_range(
                schedule(FILMS["keep"]), 0.0, 0.5
            )[0]
        },
        r"positive conditioning was changed after its shots .* \(end_percent, start_percent\)",
    ),
    "two schedules": (
        lambda: {"positive": schedule(FILMS["keep"]) + schedule(FILMS["cut"])},
        "positive conditioning carries two prompt schedules",
    ),
    "an entry more": (
        lambda: {"positive": schedule(FILMS["keep"]) + encode(BLUE)},
        r"positive conditioning was changed after its shots were set \(2 entries for 1\)",
    ),
    "shots of one entry and of two": (
        lambda: {"positive": shot(encode(RED) + encode(BLUE), 2, before=encode(RED))},
        "positive conditioning has 1 entries in its first shot but 2 in that at",
    ),
    "shorter than a chunk": (
        lambda: {"positive": schedule("[0s] a\n[1s] b\n[1.1s] c")},
        "positive, line 2, column 1: this shot is too short",
    ),
    "more shots than chunks": (
        lambda: {"positive": schedule(" | ".join("abcdefg"))},
        "positive, line 1, column 25: nothing is left for this shot",
    ),
    "a moment of its own chunk": (
        lambda: {"positive": schedule("[0s] a\n[1.4s @1.35s] b")},
        "positive, line 2, column 1: @1.35s is not yet there",
    ),
    "frames and seconds that go back": (
        lambda: {"positive": schedule("[0s] a\n[2s] b\n[20f] c")},
        "positive, line 3, column 1: times go back",
    ),
    "embeddings of another model": (
        lambda: {
            "positive": shot([[torch.zeros(1, 8, 768), {}]], 2, before=encode(RED)),
        },
        "768",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_made_is_said_before_the_model_runs(name):
    inputs, sentence = WRONG[name]
    calls = []
    hook = MODEL.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(ValueError, match=sentence):
            sample(**{"positive": encode(RED)} | inputs())
    finally:
        hook.remove()
    assert not calls


def test_shots_after_the_end_are_left_out_and_said():
    positive = schedule(f"[0s] {RED}\n[100s cut] {BLUE}\n[200s] {RED}")
    with seen.node() as browser:
        film = sample(positive)
    assert torch.equal(film, plain())
    assert browser.texts[-1].endswith(
        "2 of 3 shots, from line 2 on, begin after the end of the video at 4.31 s and are left out"
    )


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        (script((0, RED), (3, GREEN)), "1.31, 2.06 s"),
        (script((0, RED), (3, GREEN, "cut")), "1.31 s"),
        (script((0, RED), (2, BLUE, "cut"), (3, RED, "cut"), (4, GREEN)), None),
        (RED, None),
    ],
)
def test_cuts_of_a_prefix_that_its_shots_do_not_have_are_said(text, cuts):
    film = schedule(script((0, RED), (2, BLUE, "cut"), (3, RED, "cut")))
    inputs = {"model": remembering(), "width": 32, "height": 32, "seed": 7, "steps": 1, "cfg": 1.0}
    inputs |= {"batch_size": 1, "frames_per_chunk": FRAMES, "autosave": False}
    (given, _) = tiny.node("RelaxForcingSampler", positive=film, length=45, **inputs)
    with seen.node() as browser:
        sample(schedule(text), prefix=given)
    assert ("prefix is cut at" in browser.texts[-1]) == bool(cuts)
    assert not cuts or f"prefix is cut at {cuts}, but no scene of" in browser.texts[-1]


def test_where_shots_begin_is_said():
    with seen.node() as browser:
        sample(schedule(f"[0s] {RED}\n[2s blend 30s] {BLUE}"))
    assert "Shots begin at 0 and 2.06 s" in browser.texts[-1]
    assert "The blend at 2.06 s takes 30 s, but its shot 2.25 s" in browser.texts[-1]
