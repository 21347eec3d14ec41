"""Checkpoints of 4, 2 and 1 steps, and one without clean passes: one model, in turns by chunk.

The recipes are those of the frame-wise Causal Forcing family, with 4 steps in the first chunk of
each; what is compared are the later ones. The default is a model small enough for a CPU. Last line:
JSON.
"""

import argparse
import json
import os
import sys

import common
import torch
from common import Shape, median
from turns import Turn, run_in_turns

from relax_memory.host.following import ALWAYS, NEVER
from relax_memory.host.model.attention import with_memory
from relax_memory.host.sampling.sampler import MemorySampler
from relax_memory.memory.storage import Storage
from relax_memory.policies import RelaxedMemory
from relax_memory.recipes import recipe_named

SIDES = {
    "4 steps": ("Causal Forcing frame-wise", ALWAYS),
    "2 steps": ("Causal Forcing++ 2-step", ALWAYS),
    "1 step": ("Causal Forcing++ 1-step", ALWAYS),
    "4 steps, no clean pass": ("Causal Forcing frame-wise", NEVER),
}


class Clock:
    """Seconds of each chunk after the first, without those in which others have their turn."""

    def __init__(self, turn: Turn, first_steps: int, steps: int) -> None:
        self._turn, self._left, self._steps = turn, first_steps, steps
        self.seconds: list[float] = []
        turn.ready()
        self._begin = common.moment()

    def __call__(self) -> None:
        self._left -= 1
        if not self._left:
            end, self._left = common.moment(), self._steps
            common.synchronize()
            self.seconds.append(common.elapsed(self._begin, end))
            self._turn.pass_on()
            self._begin = common.moment()


def measure_side(name: str, shape: Shape, chunks: int) -> dict:
    """Passes and seconds of a later chunk, in turns with the other sides."""
    family, clean_pass = SIDES[name]
    recipe = recipe_named(family)
    assert recipe is not None, family
    model = with_memory(common.causal_model(shape), RelaxedMemory(), Storage(device="gpu"))
    first, sigmas = recipe.first_sigmas, recipe.sigmas
    sampler = MemorySampler(recipe.frames_per_chunk, torch.tensor(first), clean_pass)
    settled = 2 + 4  # chunks until all that is read at once is there
    common.sample(model, sampler, shape, 3 * recipe.frames_per_chunk, sigmas=sigmas)  # warm up
    clock = Clock(Turn(), len(first) - 1, len(sigmas) - 1)
    frames = (chunks + settled) * recipe.frames_per_chunk
    common.sample(model, sampler, shape, frames, clock, sigmas=sigmas)
    return {
        "passes": len(sigmas) - 1 + (clean_pass == ALWAYS),
        "seconds_per_chunk": median(clock.seconds[settled:]),
    }


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--chunks", type=int, default=30)
    parser.add_argument("--dim", type=int, default=256, help="model width, a multiple of 128")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=[416, 240], metavar=("W", "H"))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = common.shape_of(options)
    if options.side:
        print(json.dumps(measure_side(options.side, shape, options.chunks)))
        return
    print(f"{common.device_name()}; {shape.tokens} tokens a chunk, dim {shape.dim}")
    commands = {name: [sys.executable, *sys.argv, "--side", name] for name in SIDES}
    outputs = run_in_turns(commands, dict.fromkeys(SIDES, dict(os.environ)))
    figures = {name: json.loads(output.splitlines()[-1]) for name, output in outputs.items()}
    slowest = figures["4 steps"]["seconds_per_chunk"]
    for name, row in figures.items():
        row["speedup"] = round(slowest / row["seconds_per_chunk"], 2)
        print(
            f"{name:24}{row['passes']} passes, {row['seconds_per_chunk']:8.4f} s a chunk, "
            f"{row['speedup']}x"
        )
    common.finish(common.result("few_steps", shape, figures), save=options.save)


if __name__ == "__main__":
    main()
