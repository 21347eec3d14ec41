"""Shots laid over scenes: every chunk of a film in its place, and each scene as a video alone."""

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.strategies import policies

from relax_memory.direction.shots import Shot
from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory
from relax_memory.storyboard import Storyboard, Words


def shot(first_chunk, prompt=0, scene=0, transition="keep", **rest):
    return Shot(first_chunk=first_chunk, prompt=prompt, scene=scene, transition=transition, **rest)


def board(*shots, frames=30, negative=(), policy=None, **sizes):
    tracks = {"positive": shots} | ({"negative": negative} if negative else {})
    sizes = {"chunk_frames": 3} | sizes
    return Storyboard(policy or RelaxedMemory(), total_frames=frames, shots=tracks, **sizes)


ABA = (shot(0), shot(3, 1, 1, "cut"), shot(5, 0, 0, "return"))


LINES = {  # of the picture in section 8 of the design
    "keep": (shot(0), shot(5, 1)),
    "recache": (shot(0), shot(5, 1, transition="recache")),
    "blend 1 s": (shot(0), shot(5, 1, transition="blend", blend_seconds=1.0)),
    "cut": (shot(0), shot(5, 1, 1, "cut")),
    "cut, a moment of chunk 2": (shot(0), shot(5, 1, 1, "cut", moment=7)),
    "return": (shot(0), shot(3, 1, 1, "cut"), shot(5, 0, 0, "return")),
}


@pytest.mark.parametrize("name", LINES)
def test_the_design_shows_what_a_chunk_finds_remembered(name):
    film = board(*LINES[name], frames=24)
    read = film.chunk(5)

    def letter(chunk, clean=False):
        words = film.words(chunk, clean=clean)["positive"]
        return "ab"[words.prompt] if words.before is None else "m"

    found = ["."] * 5
    for chunk in [chunk for chunk in film if chunk.film_index < 5 and chunk.scene == read.scene]:
        found[chunk.film_index] = letter(chunk, clean=True)
        if film.again(chunk):
            found[chunk.film_index - 1] = letter(film.chunk(chunk.film_index + 1))
    for frame in read.roles.pinned:
        found[film.chunk_of(frame)] = "1"
    line = f"{name:28}{' '.join(map(letter, film))}     {' '.join(found)}"
    assert line in (ROOT / "docs/design.md").read_text("utf-8").splitlines()


def test_a_film_without_shots_is_its_plan():
    film = Storyboard(RelaxedMemory(), total_frames=31, chunk_frames=3, prefix_frames=4)
    plan = Plan(RelaxedMemory(), total_frames=31, chunk_frames=3, prefix_frames=4)
    assert list(film) == list(plan)
    assert [film.chunk_of(frame) for frame in range(31)] == [plan.chunk_of(f) for f in range(31)]
    assert film.words(film.chunk(4)) == {}


def test_a_scene_that_comes_back_goes_on():
    film = board(*ABA)
    assert [(c.scene, c.index, c.film_index) for c in film] == [
        (0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 3), (1, 1, 4),
        (0, 3, 5), (0, 4, 6), (0, 5, 7), (0, 6, 8), (0, 7, 9),
    ]  # fmt: skip
    assert [film.is_left_after(chunk) for chunk in film] == [i in (2, 4, 9) for i in range(10)]
    assert [film.goes_on(chunk) for chunk in film] == [i not in (4, 9) for i in range(10)]
    assert film.film_frames(0, (8, 9)) == (8, 15)
    assert [tuple(piece) for piece in film.pieces] == [(0, 0), (9, 1), (15, 0)]


@st.composite
def films(draw):
    n = draw(st.integers(1, 4))
    prefix = draw(st.integers(0, 9))
    frames = prefix + draw(st.integers(1, 40))
    whole = Storyboard(RelaxedMemory(), total_frames=frames, chunk_frames=n, prefix_frames=prefix)
    starts = draw(st.sets(st.integers(1, max(1, whole.chunk_count - 1)), max_size=6))
    shots, seen = [shot(0)], 1
    for start in sorted(start for start in starts if start < whole.chunk_count):
        scene = draw(st.integers(0, seen))
        seen = max(seen, scene + 1)
        moment = draw(st.none() | st.integers(0, whole.chunk(start).film_frame - 1))
        shots.append(shot(start, 0, scene, "keep", moment=moment))
    policy = draw(policies)
    sizes = {"chunk_frames": n, "prefix_frames": prefix}
    return board(*shots, frames=frames, policy=policy, **sizes)


@settings(max_examples=60, deadline=None)
@given(film=films())
def test_every_scene_reads_what_it_would_read_alone(film):
    chunks = list(film)
    frames = [frame for chunk in chunks for frame in chunk.film_frames]
    assert frames == list(range(len(frames)))
    for scene, plan in enumerate(film.plans):
        own = [chunk for chunk in chunks if chunk.scene == scene]
        assert [chunk.index for chunk in own] == list(range(len(own)))
        alone = Plan(
            film.policy,
            total_frames=plan.total_frames,
            chunk_frames=film.chunk_frames,
            prefix_frames=plan.prefix_frames,
        )
        for chunk in own:
            roles = alone.chunk(chunk.index).roles
            assert (chunk.roles.sink, chunk.roles.tail) == (roles.sink, roles.tail)
            moments = set(chunk.roles.pinned)
            local = set(roles.candidates) - set(chunk.roles.candidates)
            assert set(film.film_frames(scene, sorted(local))) <= moments
            seen = film.film_frames(scene, chunk.roles.readable)
            assert not moments.intersection(seen)


def test_a_moment_that_is_read_anyway_is_not_read_twice():
    film = board(shot(0), shot(4, 1, moment=1), shot(8, 2, moment=13))
    assert film.chunk(4).roles == film.plans[0].policy.roles(12, 3)
    assert film.chunk(8).roles.pinned == (13,)
    assert 13 not in film.chunk(8).roles.readable
    plain = board(shot(0)).chunk(8).roles
    assert len(plain.candidates) == 4
    for moment in plain.candidates:
        roles = board(shot(0), shot(8, 1, moment=moment)).chunk(8).roles
        assert roles.pinned == (moment,)
        assert roles.candidates == tuple(f for f in plain.candidates if f != moment)


def test_two_chunks_are_remembered_under_the_words_that_come():
    film = board(shot(0), shot(4, 1, 0, "recache"), shot(6, 1, 0, "recache"))
    clean = [film.words(chunk, clean=True)["positive"].prompt for chunk in film]
    assert clean == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert [film.again(chunk) for chunk in film] == [
        ("positive",) if index == 3 else () for index in range(10)
    ]


def test_each_conditioning_has_its_words():
    film = board(shot(0), negative=(shot(0), shot(2, 1, 0, "recache")))
    said = [film.words(chunk) for chunk in film]
    assert {words["positive"] for words in said} == {Words()}
    assert [words["negative"].prompt for words in said] == [0, 0] + 8 * [1]
    assert film.again(film.chunk(1)) == ("negative",)


def test_words_that_change_as_a_scene_comes_back_are_those_since_it_was_left():
    negative = (shot(0), shot(3, 1), shot(5, 0, 0, "recache"), shot(8, 1, 0, "recache"))
    film = board(*ABA, negative=negative)
    assert [film.again(chunk) for chunk in film] == [
        ("negative",) if index == 7 else () for index in range(10)
    ]


@pytest.mark.parametrize(
    ("seconds", "shares"), [(1.0, [0.375, 1]), (2.0, [0.1875, 0.5625, 0.9375, 1]), (0.3, [1])]
)
def test_a_blend_goes_by_the_middle_of_the_pictures(seconds, shares):
    film = board(shot(0), shot(2, 1, 0, "blend", blend_seconds=seconds))
    said = [film.words(film.chunk(2 + i))["positive"] for i in range(len(shares))]
    assert [words.share for words in said] == pytest.approx(shares)
    assert said[-1] == Words(prompt=1)


def test_what_two_chunks_read_lingers_where_words_may_be_remembered_anew():
    plain, recached, steerable = (
        board(shot(0), frames=240),
        board(shot(0), shot(40, 1, 0, "recache"), frames=240),
        board(shot(0), frames=240, steerable=True),
    )
    frames = [film.plans[0].peak_frames(2) for film in (plain, recached, steerable)]
    assert 0 < frames[1] - frames[0] <= 10
    assert frames[2] == frames[1]


def test_a_prefix_must_leave_something_to_make():
    with pytest.raises(ValueError, match="3 latent frames, but its prefix already has 3"):
        board(frames=3, prefix_frames=3)
