"""A film is cut into pieces of scenes in one way only, and says what is none."""

import pytest

from relax_memory.scenes import WHOLE, Piece, check_film, film_of

RETURN = (Piece(0, 0), Piece(12, 1), Piece(18, 0), Piece(21, 2))


@pytest.mark.parametrize("film", [WHOLE, RETURN])
def test_a_film_is_taken(film):
    check_film(film)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((), "begins at frame 0 with scene 0"),
        (((3, 0),), "begins at frame 0"),
        (((0, 1),), "with scene 0"),
        (((0, 0), (3, 1), (3, 0)), "after the one before"),
        (((0, 0), (0, 1)), "after the one before"),
        (((0, 0), (3, 0)), "scene 0 cannot follow on itself"),
        (((0, 0), (3, 2)), "in the order in which they come"),
        (((0, 0), (3, -1)), "numbered from 0"),
    ],
)
def test_what_is_no_film_is_refused_with_its_pieces(pieces, message):
    with pytest.raises(ValueError, match=message) as refusal:
        check_film(tuple(Piece(*piece) for piece in pieces))
    assert f"pieces are {pieces}: " in str(refusal.value)


def test_chunks_of_one_scene_are_one_piece():
    chunks = [(0, 0), (3, 0), (6, 0), (9, 0), (12, 1), (15, 1), (18, 0), (21, 2), (24, 2)]
    assert film_of(chunks) == RETURN
    assert film_of(chunks[:4]) == WHOLE
    with pytest.raises(ValueError, match="begins at frame 0"):
        film_of([])
