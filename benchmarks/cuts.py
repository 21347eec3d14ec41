"""What a cut looks like by the way it is decoded: one decoder for all, or one for each scene.

Pairs of scenes of the drawn world, encoded and decoded by the bundled VAE: 18 latent frames of one,
6 of the other, 6 more of the first. How far pictures are from those of the scene decoded by itself,
in steps of 8 bits: after the first cut as the host decodes it, and after the return with so many
frames seen again. Last line: JSON.
"""

import random
from dataclasses import dataclass

import common
import torch

from demo.bundle import load_vae
from lab.world import SIZE, draw, random_scene
from relax_memory.host.film import decode
from relax_memory.scenes import WHOLE, Film, Piece

BEFORE, AWAY, AFTER = 18, 6, 6  # latent frames
FILM = (Piece(0, 0), Piece(BEFORE, 1), Piece(BEFORE + AWAY, 0))
SEEN_AGAIN = (1, 3, 5, 7, 9, 11, 13)
PICTURES = (1, 2, 4, 8, 12, 16)  # after the cut


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """How many pairs of scenes, and the size of their pictures."""

    pairs: int
    width: int = SIZE
    height: int = SIZE

    @property
    def tokens(self) -> int:
        """Tokens of one latent frame."""
        return (self.width // 16) * (self.height // 16)


def decoded(vae, latents: torch.Tensor, pieces: Film = WHOLE) -> torch.Tensor:
    decoder = decode.VideoDecoder(vae, latents, pieces)
    return 255 * torch.cat(
        [images[0] for part in decode.parts(latents, pieces) for images in decoder.push(part)]
    )


@torch.inference_mode()
def measure(pairs: int, seen_again: list[int]) -> dict:
    vae = load_vae()
    carried, back = [], {frames: [] for frames in seen_again}
    for pair in range(pairs):
        rng = random.Random(f"cut {pair}")
        scene, other = (
            vae.encode(draw(random_scene(rng), torch.arange(4 * frames - 3)).movedim(1, -1))
            for frames in (BEFORE + AFTER, AWAY)
        )
        film = torch.cat([scene[:, :, :BEFORE], other, scene[:, :, BEFORE:]], 2)
        alone = decoded(vae, other)
        alone = torch.cat([alone[:1].expand(4, -1, -1, -1), alone[1:]])
        shown = decoded(vae, film[:, :, : BEFORE + AWAY])[-4 * AWAY :]
        carried.append((shown - alone).abs().mean((1, 2, 3)))
        whole = decoded(vae, scene)[-4 * AFTER :]
        for frames in seen_again:
            decode.WARMING_FRAMES = frames
            back[frames].append((decoded(vae, film, FILM)[-4 * AFTER :] - whole).abs())
        print(f"pair {pair + 1} of {pairs}", flush=True)
    off = torch.stack(carried).mean(0)
    return {
        "one decoder for all, mean by picture": {
            str(number): common.median([off[number - 1].item()]) for number in PICTURES
        },
        "seen again": {
            str(frames): {
                "mean": common.median([torch.stack(errors).mean().item()]),
                "largest": common.median([torch.stack(errors).max().item()]),
            }
            for frames, errors in back.items()
        },
    }


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--seen-again", type=int, nargs="+", default=SEEN_AGAIN, metavar="FRAMES")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(options.pairs, options.seen_again)
    common.finish(common.result("cuts", Pairs(pairs=options.pairs), figures), save=options.save)


if __name__ == "__main__":
    main()
