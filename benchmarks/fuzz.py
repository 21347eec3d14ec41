"""What comes of inputs drawn at random: the expected video, a sentence of ours, or a fault.

Prompts, models, guiders, schedules and latents as the host's own nodes make them, hooks of other
packs' kinds, names of videos and model files, with a small real model on the CPU. Every case is a
number (`--kind KIND --case N` shows one); what is expected of it is in `tests/drawn`.
"""

import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # cases are the same on every machine

import logging
import time
import warnings
from collections import Counter

import common
import conftest  # noqa: F401  (paths as in the tests)
import torch
from drawn import files, rollouts
from drawn.judge import FAULTS, Verdict
from drawn.nodes import Undrawable

KINDS = {  # of 500
    "conditioning": (rollouts.conditioning, 120),
    "model": (rollouts.model, 120),
    "guider": (rollouts.guider, 40),
    "sigmas": (rollouts.sigmas, 50),
    "prefix": (rollouts.prefix, 40),
    "latent_image": (rollouts.latent_image, 40),
    "file_name": (files.file_name, 50),
    "model_file": (files.model_file, 40),
}
SEED = 0
SHAPE = common.Shape(
    dim=256, ffn_dim=512, layers=3, width=32, height=32, text_tokens=8, dtype="float32"
)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--cases", type=int, default=500, help="how many in all")
    parser.add_argument("--seed", type=int, default=SEED, help="the first case of each kind")
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--case", type=int, help="this one only, with its words")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    if options.case is not None:
        print(*(KINDS[kind][0](options.case) for kind in options.kind), sep="\n")
        return
    start = time.perf_counter()
    whole = sum(KINDS[kind][1] for kind in options.kind)
    figures: dict[str, dict] = {}
    for kind in options.kind:
        draw, share = KINDS[kind]
        count = max(1, round(options.cases * share / whole))
        figures[kind] = tally(kind, draw, count, options.seed)
        print(f"{kind:14} {figures[kind]}", flush=True)
    faults = {fault: sum(line.get(fault, 0) for line in figures.values()) for fault in FAULTS}
    figures = {"seed": options.seed, "cases": figures, "faults": faults}
    figures["seconds"] = round(time.perf_counter() - start)
    common.finish(common.result("fuzz", SHAPE, figures), save=options.save)
    sys.exit(any(faults.values()))


def tally(kind: str, draw, count: int, seed: int) -> dict[str, int]:
    """How many of `count` cases came to what; faults are printed with their numbers."""
    kinds: Counter[str] = Counter()
    while sum(kinds.values()) < count:
        verdict = verdict_of(draw, seed)
        if verdict is not None:
            kinds[verdict.kind] += 1
            if verdict.is_fault:
                print(f"{kind} {seed}: {verdict.kind}: {verdict.words}", flush=True)
        seed += 1
    return dict(sorted(kinds.items()))


def verdict_of(draw, seed: int) -> Verdict | None:
    """What came of a case; None where the host's nodes gave nothing to try."""
    try:
        return draw(seed)
    except Undrawable:
        return None


if __name__ == "__main__":
    main()
