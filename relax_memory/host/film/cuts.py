"""How a LATENT carries the pieces of its film, and what it is taken from: small keys, which other
nodes copy and ignore.

Pieces are kept by their lengths, so that latents which another node has shortened or joined are
known by their number of frames.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from torch import Tensor

from ...scenes import WHOLE, Film, ends, film_of

KEY = "relax_forcing_pieces"
TAKE = "relax_forcing_take"


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


def latent_of(latents: Tensor, pieces: Film, take: Take = UNKNOWN) -> dict[str, Any]:
    """The host's LATENT of a film `[B, C, T, h, w]`: the scene and the frames of each piece."""
    latent = {"samples": latents} | ({} if take == UNKNOWN else {TAKE: take})
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
