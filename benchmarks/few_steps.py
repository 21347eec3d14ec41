"""Checkpoints of 4, 2 and 1 steps, and one without clean passes: one model, in turns by chunk.

The recipes are those of the frame-wise Causal Forcing family, with 4 steps in the first chunk of
each; what is compared are the later ones. The default is a model small enough for a CPU. Last line:
JSON.
"""

import common
import torch
from common import Shape, median
from interleaved import TurnClock, in_turns

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


SETTLED_CHUNKS = 2 + 4  # until all that is read at once is there


class Clock(TurnClock):
    """Of chunks of which the first has steps of its own."""

    def __init__(self, first_steps: int, steps: int) -> None:
        super().__init__()
        self._left, self._steps = first_steps, steps

    def __call__(self) -> None:
        self._left -= 1
        if not self._left:
            self._left = self._steps
            self.pass_on()


class Side:
    """A video by a recipe: its passes, and the seconds of a later chunk once it is made."""

    def __init__(self, name: str, shape: Shape, chunks: int) -> None:
        family, clean_pass = SIDES[name]
        recipe = recipe_named(family)
        assert recipe is not None, family
        first, sigmas = recipe.first_sigmas, recipe.sigmas
        self.clock = Clock(len(first) - 1, len(sigmas) - 1)
        self.passes = len(sigmas) - 1 + (clean_pass == ALWAYS)
        model = with_memory(common.causal_model(shape), RelaxedMemory(), Storage(device="gpu"))
        sampler = MemorySampler(recipe.frames_per_chunk, torch.tensor(first), clean_pass)
        frames = (chunks + SETTLED_CHUNKS) * recipe.frames_per_chunk
        self._sample = model, sampler, shape, frames, self.clock, sigmas

    def make(self) -> None:
        common.sample(*self._sample)

    @property
    def seconds_per_chunk(self) -> float:
        return median(self.clock.seconds[SETTLED_CHUNKS:])


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--chunks", type=int, default=30)
    parser.add_argument("--dim", type=int, default=256, help="model width, a multiple of 128")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=[416, 240], metavar=("W", "H"))
    options = parser.parse_args()
    shape = common.shape_of(options)
    print(f"{common.device_name()}; {shape.tokens} tokens a chunk, dim {shape.dim}")
    sides = {name: Side(name, shape, options.chunks) for name in SIDES}
    in_turns({side.clock: side.make for side in sides.values()})
    figures = {
        name: {"passes": side.passes, "seconds_per_chunk": side.seconds_per_chunk}
        for name, side in sides.items()
    }
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
