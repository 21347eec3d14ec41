"""A script that is edited and written again means the shots that were meant, and no others."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.test_grammar import Author

from relax_memory.direction.chunks import Chunks
from relax_memory.direction.editing import Edit, edited
from relax_memory.direction.grammar import parse
from relax_memory.direction.resolve import resolve
from relax_memory.direction.script import ScriptError
from relax_memory.direction.shots import Shot

CHUNKS = Chunks(total_frames=400, chunk_frames=3, prefix_frames=0, fps=Fraction(16))
NODE = {"transition": "keep", "blend_seconds": 1.0}
NASTY = (
    *("[5s] x", "a\n[5s cut] b", "a | b", "Scene k: a", "a\n\tScene k : b", "GLOBAL: a", "@5s"),
    *("a\r\nglobal: b", "a @0:02", "a @.5", "@ b@5 #", "[5s]# a", "a [5s]", "[", "]", "\\", "\\\\"),
    *("\\[5s]", "\\\\[", "\\Scene k: a", "a\n\\\\Scene k: b", "a\\\n[5s] b", "(a:1.2) \\(b\\)"),
    *("@ 5s a", "a [cut] b", "# [@2s] a", "GLOBAL：a", "[0:05"),
    *("Scene a\\b: c", "a [closed] shop", "{} {0} %s", "Scene k: Scene l: a", "a\r[0s]"),
)  # fmt: skip


def shots(text, chunks=CHUNKS, **node):
    """What a text shows: at which chunk, which words, and how they begin."""
    script = parse(text)
    direction = resolve(script, chunks, **NODE | node)
    return [(replace(shot, prompt=0), script.cues[shot.prompt].text) for shot in direction.shots]


def starts(text, chunks=CHUNKS):
    return [chunks.start(shot.first_chunk) for shot, _ in shots(text, chunks)]


def said(text, words):
    """What a shot with such words says in the script of a text."""
    shared = parse(text).cues[0].shared
    return f"{shared} {words.strip()}" if shared else words.strip()


def edit(text, *edits, chunks=CHUNKS, **node):
    return edited(text, edits, chunks, **NODE | node)


@pytest.mark.parametrize("seed", range(200))
def test_an_edit_changes_the_shot_that_it_names_and_no_other(seed):
    author = Author(seed)
    text, words = author.script(), author.random.choice(NASTY)
    prefix, size = author.random.choice((0, 7, 30)), author.random.choice((1, 3))
    chunks = replace(CHUNKS, prefix_frames=prefix, chunk_frames=size)
    chunk = author.random.randrange(1, chunks.count)
    change = Edit(frame=chunks.start(chunk), words=words)
    after = edit(text, change, chunks=chunks)
    before = shots(text, chunks)
    at = sum(shot.first_chunk < chunk for shot, _ in before)
    until = sum(shot.first_chunk <= chunk for shot, _ in before)
    new = Shot(first_chunk=chunk, prompt=0, scene=before[at - 1][0].scene, transition="keep")
    for shot, _ in before[at:until]:
        new = shot
    assert shots(after, chunks) == [*before[:at], (new, said(text, words)), *before[until:]]
    assert edit(after, change, chunks=chunks) == after


@pytest.mark.parametrize("seed", range(200))
def test_what_begins_after_the_end_is_there_once_the_video_is_longer(seed):
    author = Author(seed)
    text, short = author.stamps(), replace(CHUNKS, total_frames=60)
    after = edit(text, Edit(frame=117, words="x"), chunks=short)
    longer = edit(text, Edit(frame=117, words="x"))
    assert [text for _, text in shots(after)] == [text for _, text in shots(longer)]


@given(st.text().filter(str.strip), st.sampled_from(["a cat", "GLOBAL: x \\|\n[0s] Scene k: a"]))
def test_any_words_are_taken_as_they_are(words, text):
    after = edit(text, Edit(frame=117, words=words))
    assert [text for _, text in shots(after)][1:] == [said(text, words)]


@given(st.text(alphabet="\\\\[]|@#5s.: \n\r\tgG", max_size=40).filter(str.strip))
def test_words_that_look_like_marks_are_taken_as_they_are(words):
    after = edit("GLOBAL: \\\\[ \\| scene a: b\na", Edit(frame=117, words=words))
    assert [text for _, text in shots(after)][1:] == [f"\\[ | scene a: b {words.strip()}"]


def test_what_an_edit_does_not_say_stays():
    text = "GLOBAL: noir,\n[0s] a\n[5s blend 2s @0:02] b\n[10s] Scene k: c"
    assert starts(text) == [0, 81, 165]
    assert edit(text, Edit(frame=81, words="x"), Edit(frame=165, words="y")) == (
        "GLOBAL: noir,\n[0f] a\n[81f blend 2s @2s] x\n[165f] Scene k: y"
    )


def test_without_an_edit_a_text_stays_as_it_was_written():
    assert edit(" a | b\r\n") == " a | b\r\n"


def test_of_two_edits_of_a_shot_the_later_one_holds():
    first = Edit(frame=81, words="x", transition="recache", moment_frame=16)
    assert edit("a", first, Edit(frame=81, words="y")) == "[0f] a\n[81f recache @16f] y"
    blend = Edit(frame=81, words="y", transition="blend", blend_seconds=2.5)
    assert edit("a", first, blend) == "[0f] a\n[81f blend 2.5s @16f] y"


def test_an_edit_without_a_cut_ends_the_scene_that_began_there():
    text = "[0s] a\n[5s] Scene k: b\n[10s] Scene l: c"
    kept = Edit(frame=81, words="x", transition="keep")
    assert edit(text, kept) == "[0f] a\n[81f keep] x\n[165f] Scene l: c"
    cut = Edit(frame=81, words="x", transition="cut")
    assert edit(text, cut) == "[0f] a\n[81f cut] Scene k: x\n[165f] Scene l: c"


def test_parts_become_shots_with_the_times_that_they_had():
    assert edit("a | b | c [#]", Edit(frame=81, words="x")) == (
        "[0f] a\n[81f] x\n[537f] b\n[1065f cut] c"
    )
    assert edit("a [1:40] | b [0.001s] | c [1s]", Edit(frame=81, words="x")) == (
        "[0f] a\n[81f] x\n[1600f] b\n[1601f] c"
    )


@pytest.mark.parametrize(
    ("text", "change", "sentence"),
    [
        ("[0s] a\n[5] b", Edit(frame=81, words="x"), "line 2, column 2: 5 has no unit"),
        ("", Edit(frame=81, words="x"), "line 1, column 1: this shot has no words"),
        ("a", Edit(frame=81, words=" \n"), "shot at 81f: this shot has no words"),
        ("a", Edit(frame=81, words="x", moment_frame=81), "shot at 81f: @81f is not yet there"),
        (
            "a",
            Edit(frame=81, words="x", transition="blend", blend_seconds=0),
            "shot at 81f: a blend takes time",
        ),
        (
            "[0s] a\n[5s] Scene k: b\n[10s] Scene k: c",
            Edit(frame=165, words="x", transition="cut"),
            "shot at 165f: scene k goes on here, so there is no cut",
        ),
    ],
)
def test_what_cannot_be_is_told_where_it_is(text, change, sentence):
    with pytest.raises(ScriptError) as error:
        edit(text, change)
    assert str(error.value).startswith(sentence)
