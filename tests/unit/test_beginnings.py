"""The first words of shots tell them apart, in one short line."""

import pytest

from relax_memory.direction.beginnings import LETTERS, beginning, beginnings

SHARED = "a film in black and white, with rain at night, "


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a cat", "a cat"),
        ("a cat\n  sleeps\tin\u2028the sun", "a cat sleeps in the sun"),
        (
            "a cat sleeps in the morning sun on a red roof",
            "a cat sleeps in the morning sun on a red",
        ),
        ("猫" * 60, "猫" * LETTERS),
        ("", ""),
    ],
)
def test_a_text_is_told_by_its_first_words_in_one_line(text, told):
    assert beginning(text) == told


def test_what_all_shots_share_is_left_out_where_it_hides_the_rest():
    texts = [SHARED + "a cat", SHARED + "a dog", SHARED + "a cat"]
    assert beginnings(texts) == ("cat", "dog", "cat")
    assert beginnings(["a cat", "a dog"]) == ("a cat", "a dog")
    assert beginnings([SHARED, SHARED + "dog"])[1] == "dog"
    assert beginnings([SHARED, SHARED])[0] == beginnings([SHARED])[0]
