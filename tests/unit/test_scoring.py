"""Prototypes and scores against loops over frames, tokens and heads in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relax_memory.scoring import choose_history, frame_means, prototype, relaxation_scores

ROWS, FRAMES, TOKENS, HEADS, HEAD_DIM = 2, 3, 5, 4, 8


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def literal_prototype(means):
    mean = means.double().mean(dim=0)
    return mean / mean.norm()


def literal_score(candidate, sink, tail, weight):
    score = 0.0
    if len(sink):
        score += float(literal_prototype(candidate) @ literal_prototype(sink))
    if len(tail):
        score -= weight * float(literal_prototype(candidate) @ literal_prototype(tail))
    return score


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_frame_s_mean_is_over_its_tokens_and_heads_in_float32(dtype):
    keys = random(ROWS, FRAMES * TOKENS, HEADS, HEAD_DIM, dtype=dtype)
    means = frame_means(keys, FRAMES)
    assert means.dtype == torch.float32
    for row in range(ROWS):
        for frame in range(FRAMES):
            own = [
                keys[row, frame * TOKENS + token, head].double()
                for token in range(TOKENS)
                for head in range(HEADS)
            ]
            torch.testing.assert_close(means[row, frame].double(), sum(own) / len(own))


def test_the_prototype_of_frames_is_the_direction_of_their_mean():
    means = random(ROWS, FRAMES, HEAD_DIM)
    for row in range(ROWS):
        torch.testing.assert_close(
            prototype(means)[row].double(), literal_prototype(means[row]), check_dtype=False
        )


def test_nothing_has_a_prototype_of_zeros():
    assert torch.equal(prototype(torch.empty(ROWS, 0, HEAD_DIM)), torch.zeros(ROWS, HEAD_DIM))


@pytest.mark.parametrize("sinks", [0, 1, 2])
@pytest.mark.parametrize("tails", [0, 1, 3])
@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_score_is_likeness_to_the_sink_less_likeness_to_the_tail(sinks, tails, weight):
    candidates = random(ROWS, 4, HEAD_DIM, seed=1)
    sink, tail = random(ROWS, sinks, HEAD_DIM, seed=2), random(ROWS, tails, HEAD_DIM, seed=3)
    scores = relaxation_scores(candidates, sink, tail, redundancy_weight=weight)
    assert scores.shape == (ROWS, 4)
    for row in range(ROWS):
        for i in range(4):
            expected = literal_score(candidates[row, i : i + 1], sink[row], tail[row], weight)
            assert float(scores[row, i]) == pytest.approx(expected, abs=1e-6)


def test_a_score_depends_on_directions_only():
    candidates, sink, tail = (random(1, n, HEAD_DIM, seed=n) for n in (4, 1, 2))
    scores = relaxation_scores(candidates, sink, tail, redundancy_weight=2.0)
    scaled = relaxation_scores(8 * candidates, 4 * sink, 2 * tail, redundancy_weight=2.0)
    assert torch.equal(scores, scaled)


def test_a_row_has_the_same_means_alone_and_in_a_batch():
    keys = random(5, FRAMES * 60, 12, 128, dtype=torch.bfloat16)
    batch = frame_means(keys, FRAMES)
    assert all(torch.equal(frame_means(keys[i : i + 1], FRAMES)[0], batch[i]) for i in range(5))


def test_a_row_has_the_same_scores_alone_and_in_a_batch():
    parts = [random(5, n, 128, seed=n) for n in (4, 2, 1)]
    batch = relaxation_scores(*parts, redundancy_weight=2.0)
    for row in range(5):
        alone = relaxation_scores(*(part[row : row + 1] for part in parts), redundancy_weight=2.0)
        assert torch.equal(alone[0], batch[row])


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8), st.data())
def test_history_is_the_best_candidates_in_temporal_order(scores, data):
    candidates = tuple(range(10, 10 + 3 * len(scores), 3))
    history_frames = data.draw(st.integers(0, len(scores)))
    chosen = choose_history(candidates, tuple(scores), history_frames)
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == history_frames
    score = dict(zip(candidates, scores, strict=True))
    left = set(candidates) - set(chosen)
    assert all(score[c] >= score[other] for c in chosen for other in left)


def test_the_older_candidate_wins_a_tie():
    assert choose_history((3, 5, 8), (1.0, 2.0, 2.0), 1) == (5,)
    assert choose_history((3, 5, 8), (1.0, 1.0, 1.0), 2) == (3, 5)


def test_a_score_that_is_no_number_is_chosen_last():
    assert choose_history((3, 5, 8), (math.nan, -1.0, 0.0), 2) == (5, 8)
    assert choose_history((3, 5, 8), (math.nan, math.nan, -1.0), 1) == (8,)
    assert choose_history((3, 5), (math.nan, math.nan), 1) == (3,)
