"""A film as pieces of scenes: where it is cut, and which scene goes on from there.

Plain numbers that plan, decoder and saved chunks share. Knows no chunks, words or memory.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple


class Piece(NamedTuple):
    """From this latent frame of the film on, this scene is seen, until the next piece begins."""

    first_frame: int
    scene: int  # numbered by first appearance


Film = tuple[Piece, ...]
WHOLE: Film = (Piece(0, 0),)


def check_film(pieces: Film) -> None:
    """Raise ValueError unless these are the pieces of a film, in order."""
    told = f"pieces are {tuple(map(tuple, pieces))}"
    if pieces[:1] != WHOLE:
        raise ValueError(f"{told}: a film begins at frame 0 with scene 0.")
    seen = 0
    for before, piece in pairwise(pieces):
        if piece.first_frame <= before.first_frame:
            raise ValueError(f"{told}: each must begin after the one before.")
        if piece.scene == before.scene:
            raise ValueError(f"{told}: scene {piece.scene} cannot follow on itself.")
        if not 0 <= piece.scene <= seen + 1:
            raise ValueError(f"{told}: scenes are numbered from 0 in the order in which they come.")
        seen = max(seen, piece.scene)


def ends(pieces: Film, frames: int) -> tuple[int, ...]:
    """The frame at which each piece of a film of so many frames ends, itself not included."""
    return (*(piece.first_frame for piece in pieces[1:]), frames)


def film_of(beginnings: Iterable[tuple[int, int]]) -> Film:
    """The film of consecutive parts, such as chunks, by first frame and scene of each.

    Raises ValueError where they make no film.
    """
    pieces: list[Piece] = []
    for first_frame, scene in beginnings:
        if not pieces or scene != pieces[-1].scene:
            pieces.append(Piece(first_frame, scene))
    check_film(film := tuple(pieces))
    return film
