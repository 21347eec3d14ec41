"""How near `recache`, which remembers the last chunks anew, comes to remembering everything anew.

Films of the bundled model by the float64 reference of the tests, whose words change once: with so
many of the newest chunks remembered under the new words (0 is keep, 2 is the pack's recache), as
far as their latents are from those of the literal recache, in deviations of these. Last line: JSON.
"""

import common
import torch
from parity.reference import Relaxed, to_model
from parity.reference_film import Shot, film
from parity.reference_model import Transformer
from policy_lab import SHAPE, interval
from safetensors.torch import load_file

from demo.bundle import MODEL
from demo.text import embed, tokens
from lab.films import CHUNK_FRAMES, changes

SIGMAS = (1.0, 0.75, 0.5, 0.25, 0.0)  # as the bundled model runs
NEWEST = (0, 1, 2)
AFTER_CHUNKS = 6
AFTER = {"chunk 1": (0, 1), "chunks 2 and 3": (1, 3), "chunks 4 to 6": (3, AFTER_CHUNKS)}


def distances(model: Transformer, at: int, change, seed: int) -> dict[int, list[float]]:
    """Of each number of newest chunks, for each span of chunks after the switch at chunk `at`."""
    texts = [embed(tokens(scene.prompt)) for scene in (change.before, change.after)]
    shots = [Shot(first_chunk=0, text=0), Shot(first_chunk=at, text=1, transition="recache")]

    def made(newest: int) -> torch.Tensor:
        latents = film(
            model,
            Relaxed(),
            {"positive": texts},
            {"positive": shots},
            cfg=1.0,
            sigmas=list(SIGMAS),
            shape=((at + AFTER_CHUNKS) * CHUNK_FRAMES, SHAPE.height // 8, SHAPE.width // 8),
            n=CHUNK_FRAMES,
            seed=seed,
            newest=newest,
        )
        return to_model(latents[:, at * CHUNK_FRAMES :])

    literal = made(at)
    found = {}
    for newest in NEWEST:
        off = (made(newest) - literal).pow(2) / literal.var()
        spans = (off[:, first * CHUNK_FRAMES : end * CHUNK_FRAMES] for first, end in AFTER.values())
        found[newest] = [span.mean().sqrt().item() for span in spans]
    return found


@torch.inference_mode()
def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=8, help="of prompts, each with its own noise")
    parser.add_argument("--at", nargs="+", type=int, default=(11, 40), help="chunks of the switch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Transformer(load_file(MODEL))
    figures = {}
    for at in options.at:
        rows = []
        for seed, change in enumerate(changes(options.pairs)):
            rows.append(distances(model, at, change, seed))
            print(f"switch at chunk {at}, pair {seed + 1} of {options.pairs}", flush=True)
        figures[f"switch at chunk {at}"] = {
            str(newest): {
                span: interval(row[newest][number] for row in rows)
                for number, span in enumerate(AFTER)
            }
            for newest in NEWEST
        }
    common.finish(common.result("recache", SHAPE, figures), save=options.save)


if __name__ == "__main__":
    main()
