"""What ten shots cost over one prompt on the clock: a minute of each, chunk by chunk in turns.

Each film runs in a process of its own on one thread, and what counts is the time that the processor
spends on it. One prompt runs twice, which tells how much of a difference is chance. The default is
a model small enough for a CPU. Last line: JSON.
"""

import argparse
import json
import os
import sys
import time
from statistics import median

import common
import torch
from common import CHUNK_FRAMES, Shape
from policy_lab import interval
from small import TEXT_DIM
from turns import Turn, run_in_turns

from relax_memory.grid import WAN
from relax_memory.host.directed import with_shot
from relax_memory.host.model.attention import with_memory
from relax_memory.host.request import make_request
from relax_memory.host.sampling.generate import generate
from relax_memory.policies import RelaxedMemory

SHOTS = 10
SETTLED_CHUNKS = 5  # until all that is read at once is there
ONE = "one prompt"
SIDES = {ONE: None, "one prompt again": None} | {way: way for way in ("keep", "blend", "recache")}


class Clock:
    """A keeper that takes the seconds of each chunk, from the end of the one before to its own."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._start: float | None = None
        self.seconds: list[float] = []

    def keep(self, finished: object) -> None:
        if self._start is None:
            self._turn.ready()
        else:
            self.seconds.append(self._now() - self._start)
            self._turn.pass_on()
        self._start = self._now()

    def _now(self) -> float:
        common.synchronize()
        return time.process_time() if common.DEVICE.type == "cpu" else time.perf_counter()


def directed(transition: str | None, shape: Shape, chunks: int) -> list:
    """A conditioning of as many shots as they are, or of the first alone."""
    generator = torch.Generator().manual_seed(1)
    conditioning = None
    for shot in range(SHOTS if transition else 1):
        frame = CHUNK_FRAMES * (shot * chunks // SHOTS)
        text = torch.randn(1, shape.text_tokens, TEXT_DIM, generator=generator)
        conditioning = with_shot(
            [[text, {}]],
            start_seconds=WAN.length(frame) / WAN.fps if frame else 0,
            transition=transition if transition and shot else "keep",
            blend_seconds=2.0,
            before=conditioning,
        )
    return conditioning


@torch.inference_mode()
def measure_side(name: str, shape: Shape, chunks: int) -> dict:
    """Passes of a film, and seconds of each chunk after the first, in turns with the others."""
    torch.set_num_threads(1)
    clock = Clock(Turn())
    model = common.causal_model(shape)
    passes: list[None] = []
    model.model.diffusion_model.register_forward_pre_hook(lambda *_: passes.append(None))
    request = make_request(
        model=with_memory(model, RelaxedMemory()),
        positive=directed(SIDES[name], shape, chunks),
        width=shape.width,
        height=shape.height,
        length=WAN.length(CHUNK_FRAMES * chunks),
        seed=1,
    )
    generate(request, clock)
    return {"passes": len(passes), "seconds": clock.seconds}


def compared(sides: dict[str, dict], chunks: int) -> dict:
    """What each film takes over one prompt, and what a chunk takes with which a shot begins."""
    begins = [shot * chunks // SHOTS - 1 for shot in range(1, SHOTS)]
    usual = sides[ONE]["seconds"]
    figures = {}
    for name, side in sides.items():
        own = side["seconds"]
        over = [100 * (a / b - 1) for a, b in zip(own, usual, strict=True)]
        figures[name] = {
            "passes": side["passes"],
            "seconds_per_chunk": common.median(own[SETTLED_CHUNKS:]),
            "all_seconds_percent_over": round(100 * (sum(own) / sum(usual) - 1), 2),
            "chunk_percent_over": interval(over),
            "median_chunk_percent_over": round(median(over), 2),
            "shot_percent_over": interval(over[begin] for begin in begins),
        }
    return figures


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--chunks", type=int, default=80)
    parser.add_argument("--dim", type=int, default=256, help="model width, a multiple of 128")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=[416, 240], metavar=("W", "H"))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = common.shape_of(options)
    if options.side:
        print(json.dumps(measure_side(options.side, shape, options.chunks)))
        return
    torch.set_num_threads(1)
    names = dict.fromkeys([ONE, *options.sides])
    commands = {name: [sys.executable, *sys.argv, "--side", name] for name in names}
    outputs = run_in_turns(commands, dict.fromkeys(names, dict(os.environ)))
    sides = {name: json.loads(output.splitlines()[-1]) for name, output in outputs.items()}
    figures = compared(sides, options.chunks)
    for name, row in figures.items():
        print(name, row)
    common.finish(common.result("ten_shots", shape, figures), save=options.save)


if __name__ == "__main__":
    main()
