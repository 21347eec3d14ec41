"""How a LATENT carries the pieces and the shots of its film, and what it is taken from: small keys,
which other nodes copy and ignore.

Pieces and shots are kept by their lengths, so that latents which another node has shortened or
joined are known by their number of frames.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from torch import Tensor

from ...film.chapters import shown
from ...grid import WAN
from ...scenes import WHOLE, Film, ends, film_of

KEY = "relax_forcing_pieces"
SHOTS = "relax_forcing_shots"
TAKE = "relax_forcing_take"
OURS = {KEY, SHOTS, TAKE}


class Take(NamedTuple):
    """What latents are of, as far as it is known.

    Args:
        rollout: name of the saved rollout.
        sample: the number that their first sample has in the batch in which they were begun, by
            which its noise goes on.
        frames_per_chunk: of what made them; 0: not known.
        seed: of what made them; -1: not known.
    """

    rollout: str = ""
    sample: int = 0
    frames_per_chunk: int = 0
    seed: int = -1

    def changed(self, *, frames_per_chunk: int, seed: int) -> list[str]:
        """What is no longer as in the saved rollout, in sentences: then it does not go on as that
        would have."""
        if not self.rollout:
            return []
        now = {"frames_per_chunk": frames_per_chunk, "seed": seed}
        return [
            f"{name} is {value}, but {then} made {self.rollout}: a take of its own from here on."
            for name, value in now.items()
            if (then := getattr(self, name)) != value and then != Take._field_defaults[name]
        ]


UNKNOWN = Take()


def take_of(latent: Mapping[str, Any]) -> Take:
    """What a LATENT is taken from; of one that does not say, nothing."""
    return Take(*latent.get(TAKE, ()))


def latent_of(
    latents: Tensor,
    pieces: Film,
    take: Take = UNKNOWN,
    shots: Sequence[tuple[int, str]] = (),
) -> dict[str, Any]:
    """The host's LATENT of a film `[B, C, T, h, w]`: the scene and the frames of each piece.

    Args:
        shots: the latent frame with which each begins, and its words.
    """
    latent: dict[str, Any] = {"samples": latents}
    if take != UNKNOWN:
        latent[TAKE] = take
    if shots:
        starts = [first for first, _ in shots] + [latents.shape[2]]
        latent[SHOTS] = tuple(
            (shown(words), end - first)
            for (_, words), (first, end) in zip(shots, pairwise(starts), strict=True)
        )
    if len(pieces) == 1:
        return latent
    until = ends(pieces, latents.shape[2])
    told = tuple((p.scene, end - p.first_frame) for p, end in zip(pieces, until, strict=True))
    return latent | {KEY: told}


def pieces_of(latent: Mapping[str, Any], name: str = "samples") -> Film:
    """The pieces of the film in a LATENT, which is the input `name` of a node.

    Raises:
        ValueError: pieces of another number of frames than it has.
    """
    told, latents = latent.get(KEY), latent["samples"]
    if told is None or latents.ndim != 5:  # the shape is refused elsewhere
        return WHOLE
    scenes, lengths = zip(*told, strict=True)
    if sum(lengths) != (frames := latents.shape[2]):
        raise ValueError(
            f"{name} has {frames} latent frames, but its cuts are those of a video of "
            f"{sum(lengths)}: another node has shortened or joined its latents, so where they are "
            "cut is not known. Decode the video as it was made, and shorten or join what comes out."
        )
    starts = accumulate(lengths[:-1], initial=0)
    return film_of(zip(starts, scenes, strict=True))


def chapters_of(latent: Mapping[str, Any], fps: float) -> list[tuple[float, str]]:
    """The second at which each shot of a LATENT begins, and its words; none where another node has
    changed its length."""
    words, lengths = zip(*latent.get(SHOTS, (("", 0),)), strict=True)
    if sum(lengths) != latent["samples"].shape[2]:
        return []
    starts = accumulate(lengths[:-1], initial=0)
    return [(WAN.length(start) / fps, said) for start, said in zip(starts, words, strict=True)]
