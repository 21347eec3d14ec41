"""Roles are ascending frames; only the history among them is chosen."""

import pytest

from relax_memory.roles import Roles

ROLES = Roles(sink=(0, 1), candidates=(4, 6, 8), tail=(9,), history_frames=1)


def test_memory_is_read_as_sink_history_tail():
    assert ROLES.readable == (0, 1, 4, 6, 8, 9)
    assert ROLES.attended((6,)) == (0, 1, 6, 9)
    assert ROLES.attended_frames == 4


def test_there_is_a_choice_only_among_more_candidates_than_history():
    assert ROLES.has_choice
    assert not Roles(candidates=(4, 6), history_frames=2).has_choice
    assert not Roles(candidates=(4, 6), history_frames=0).has_choice
    assert not Roles().has_choice


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sink": (1, 0)}, r"ascending frames, got \(1, 0\)"),
        ({"sink": (0, 1), "tail": (1,)}, r"ascending frames, got \(0, 1, 1\)"),
        ({"sink": (5,), "candidates": (4,)}, r"ascending frames, got \(5, 4\)"),
        ({"candidates": (4,), "history_frames": 2}, "0 to 1 history frames, got 2"),
        ({"history_frames": -1}, "0 to 0 history frames, got -1"),
    ],
)
def test_impossible_roles_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Roles(**wrong)
