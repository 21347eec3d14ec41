"""A script on the chunks of a video: shots in order, on the grid, each at least a chunk."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relax_memory.direction.chunks import Chunks
from relax_memory.direction.grammar import parse
from relax_memory.direction.resolve import resolve
from relax_memory.direction.script import ScriptError
from relax_memory.direction.shots import Shot
from relax_memory.grid import WAN
from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory

VIDEO = {"total_frames": 60, "chunk_frames": 3, "prefix_frames": 0, "fps": 16.0}
NODE = {"transition": "keep", "blend_seconds": 1.0}


def direct(text, **settings):
    video = {key: settings.pop(key, VIDEO[key]) for key in VIDEO}
    return resolve(parse(text), chunks_of(**video), **NODE | settings)


def chunks_of(fps, **sizes):
    return Chunks(fps=Fraction(fps), **sizes)


def firsts(text, **settings):
    return [shot.first_chunk for shot in direct(text, **settings).shots]


@st.composite
def videos(draw):
    prefix = draw(st.integers(0, 20))
    return {
        "total_frames": prefix + draw(st.integers(1, 80)),
        "chunk_frames": draw(st.integers(1, 5)),
        "prefix_frames": prefix,
        "fps": draw(st.sampled_from([16.0, 24.0, 23.976])),
    }


def chunk_starts(video):
    """Frames of the video with which chunks begin, from the plan that the sampler follows."""
    sizes = {key: value for key, value in video.items() if key != "fps"}
    return [WAN.length(chunk.first_frame) for chunk in Plan(RelaxedMemory(), **sizes)]


@given(videos(), st.integers(1, 12))
def test_equal_parts_have_a_chunk_each_at_any_length(video, parts):
    starts = chunk_starts(video)
    text = "|".join("abcdefghijkl"[:parts])
    if parts > len(starts):
        with pytest.raises(ScriptError, match="nothing is left for this shot") as error:
            direct(text, **video)
        assert error.value.column == 2 * len(starts) + 1
        return
    chunks = firsts(text, **video)
    assert chunks[0] == 0
    assert chunks == sorted(set(chunks))
    assert len(chunks) == parts
    assert chunks[-1] < len(starts)


@given(videos(), st.lists(st.integers(1, 3000), max_size=8, unique=True))
def test_a_stamp_goes_to_the_nearest_chunk_or_is_refused(video, frames):
    starts, end = chunk_starts(video), WAN.length(video["total_frames"])
    frames = [0, *sorted(frames)]
    text = "\n".join(f"[{frame}f] shot {frame}" for frame in frames)
    nearest = [
        min(range(len(starts)), key=lambda chunk: (abs(starts[chunk] - frame), chunk))
        for frame in frames
        if frame < end
    ]
    if len(set(nearest)) < len(nearest):
        twice = next(i for i, chunk in enumerate(nearest) if nearest[i + 1] == chunk)
        with pytest.raises(ScriptError, match="too short") as error:
            direct(text, **video)
        assert error.value.line == twice + 1
        return
    direction = direct(text, **video)
    assert [shot.first_chunk for shot in direction.shots] == nearest
    left_out = len(frames) - len(nearest)
    assert any("left out" in note for note in direction.notes) == bool(left_out)


@given(videos(), st.integers(0, 400))
def test_a_moment_is_the_latent_frame_that_holds_it_or_is_not_yet_there(video, frame):
    starts, end = chunk_starts(video), WAN.length(video["total_frames"])
    assume(len(starts) > 1)
    text = f"[0s] a\n[{end - 1}f @{frame}f] b"
    holding = next(f for f in range(200) if WAN.length(f + 1) > frame)
    before = WAN.latent_frames(starts[-1]) if starts[-1] else 0
    if holding < before and frame < end - 1:
        assert direct(text, **video).shots[1].moment == holding
    else:
        with pytest.raises(ScriptError, match="is not yet there"):
            direct(text, **video)


def test_seconds_become_chunks_and_it_says_which():
    direction = direct("[0s] a\n[5s recache] b\n[0:10 blend 2s @0:02] a")
    assert direction.shots == (
        Shot(first_chunk=0, prompt=0, scene=0, transition="keep"),
        Shot(first_chunk=7, prompt=1, scene=0, transition="recache"),
        Shot(
            first_chunk=14, prompt=0, scene=0, transition="blend", blend_seconds=2.0, moment=8
        ),
    )  # fmt: skip
    assert direction.begins == "Shots begin at 0, 5.06 and 10.3 s"
    assert not direction.notes


def test_the_node_says_what_a_cue_does_not():
    text = "[0s] a\n[2s] b\n[4s keep] c\n[6s blend] d\n[8s blend 8f] e"
    shots = direct(text, transition="blend", blend_seconds=1.5).shots
    assert [shot.transition for shot in shots] == ["keep", "blend", "keep", "blend", "blend"]
    assert [shot.blend_seconds for shot in shots] == [0.0, 1.5, 0.0, 1.5, 0.5]


def test_scenes_are_numbered_as_they_appear_and_come_back():
    text = "a | Scene in: b | Scene out: c | d [#] | Scene IN: e | Scene in: f | g"
    shots = direct(text).shots
    assert [shot.scene for shot in shots] == [0, 1, 2, 3, 1, 1, 1]
    begins = ["keep", "cut", "cut", "cut", "return", "keep", "keep"]
    assert [shot.transition for shot in shots] == begins
    shots = direct(text, transition="cut").shots
    assert [shot.scene for shot in shots] == [0, 1, 2, 3, 1, 1, 4]


def test_durations_add_up_and_the_rest_is_shared():
    assert firsts("a [3s] | b | c [3s] | d") == [0, 4, 10, 14]
    direction = direct("a [3s] | b [3s]")
    assert [shot.first_chunk for shot in direction.shots] == [0, 4]
    assert direction.notes[0] == "The last shot goes on to the end of the video at 14.8 s"
    with pytest.raises(ScriptError, match="line 1, column 11: nothing is left for this shot"):
        direct("a [15s] | b")


def test_what_is_not_as_it_was_written_is_noted():
    left_out, blend = direct("[0s] a\n[5s blend 20s] b\n[1:00] c\n[2:00] d").notes
    assert left_out.startswith("2 of 4 shots, from line 3 on, begin after the end of the video")
    assert blend.startswith("The blend at 5.06 s takes 20 s, but its shot 9.75 s")
    assert direct("[0s-5s] a\n[5s-10s] b").notes[0].startswith("The last shot goes on")
    assert not direct("[0s-5s] a\n[5s-14.5s] b").notes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("a | b | c", 5.06),
        ("a [3s] | b | c [#]", 8.81),
        ("a [3s] | b | c [3s]", 11.8),
        ("a [3s] | b", None),
        ("[0s] a\n[3s] b", None),
        ("Scene a: a", None),
    ],
)
def test_it_says_what_a_longer_video_keeps(text, seconds):
    direction = direct(text)
    told = [note.partition("keep what is before ")[2] for note in direction.notes]
    assert told == ([] if seconds is None else [f"{seconds:g} s"])
    chunk = None if seconds is None else chunks_of(**VIDEO).nearest(Fraction(16 * seconds))
    kept = tuple(shot for shot in direction.shots if chunk is None or shot.first_chunk < chunk)
    for more in range(1, 100):
        longer = direct(text, total_frames=VIDEO["total_frames"] + more).shots
        assert longer[: len(kept)] == kept
        assert chunk is None or longer[len(kept)].first_chunk >= chunk


def test_a_shot_may_begin_inside_the_prefix():
    assert firsts("[0s] a\n[1s] b\n[3s] c", prefix_frames=13) == [0, 2, 5]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[0s] a\n[5s-79f] b", "line 2, column 1: this shot begins at 5s and ends at 79f"),
        ("[0s] a\n[5s] b\n[80f] c", "line 3, column 1: times go back"),
        ("[0s-5s] a\n[81f] b", "line 2, column 1: shots leave a gap"),
        ("[0s] a\n[5s @80f] b", "line 2, column 1: @80f is not yet there"),
        ("a @0:01 | b", "line 1, column 1: @1s is not yet there"),
    ],
)
def test_seconds_and_frames_are_compared_by_the_rate(text, sentence):
    with pytest.raises(ScriptError) as error:
        direct(text)
    assert str(error.value).startswith(sentence)
