"""What ten shots cost over one prompt on the clock: minutes of each, chunk by chunk in turns.

All films are made in one process, on one thread at a time, since two processes differ by more than
what is looked for; what counts is the time that the processor spends on a chunk. One prompt runs
twice, which tells how much of a difference is chance. The default is a model small enough for a
CPU; pictures of 416x240 make tensors so large that how they come to lie in memory decides. Last
line: JSON.
"""

import statistics
import time
from dataclasses import replace

import common
import torch
from common import CHUNK_FRAMES, Shape
from interleaved import TurnClock, in_turns
from policy_lab import interval
from small import TEXT_DIM

from relax_memory.grid import WAN
from relax_memory.host.directed import with_shot
from relax_memory.host.model.attention import with_memory
from relax_memory.host.request import make_request
from relax_memory.host.sampling.generate import generate
from relax_memory.policies import RelaxedMemory

SHOTS = 10
TEXT_TOKENS = 8  # which to embed and project takes 0.2 % of a chunk; 512 take 0.14 % with Wan 1.3B
SETTLED_CHUNKS = 5  # until all that is read at once is there
ONE = "one prompt"
SIDES = {ONE: None, "one prompt again": None} | {way: way for way in ("keep", "blend", "recache")}


class Clock(TurnClock):
    """A keeper that takes the seconds of each chunk, from the end of the one before to its own."""

    def __init__(self) -> None:
        super().__init__(time.process_time if common.DEVICE.type == "cpu" else common.moment)

    def keep(self, finished: object) -> None:
        self.pass_on()


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


class Side:
    """One film to be made: the seconds of its chunks after the first, and all passes."""

    def __init__(self, transition: str | None, shape: Shape, chunks: int) -> None:
        self.clock = Clock()
        self.passes = 0
        model = common.causal_model(shape)
        model.model.diffusion_model.register_forward_pre_hook(self._count)
        self._request = make_request(
            model=with_memory(model, RelaxedMemory()),
            positive=directed(transition, shape, chunks),
            width=shape.width,
            height=shape.height,
            length=WAN.length(CHUNK_FRAMES * chunks),
            seed=1,
        )

    def _count(self, *_: object) -> None:
        self.passes += 1

    def make(self) -> None:
        with torch.inference_mode():
            generate(self._request, self.clock)

    @property
    def seconds(self) -> list[float]:
        return self.clock.seconds[1:]


def measure_round(names: list[str], shape: Shape, chunks: int) -> dict[str, Side]:
    """Films of these names, made in turns."""
    sides = {name: Side(SIDES[name], shape, chunks) for name in names}
    in_turns({side.clock: side.make for side in sides.values()})
    return sides


def compared(rounds: list[dict[str, Side]], chunks: int) -> dict:
    """What each film takes over one prompt, round by round, and what a chunk takes with which a
    shot begins, in percent: means with 95 % intervals.
    """
    begins = [shot * chunks // SHOTS - 1 for shot in range(1, SHOTS)]
    figures = {}
    for name in rounds[0]:
        pairs = [(sides[name], _one_prompt(sides)) for sides in rounds]
        films = [100 * (sum(side.seconds) / sum(usual) - 1) for side, usual in pairs]
        figures[name] = {
            "passes": rounds[0][name].passes,
            "seconds_per_chunk": common.median(
                seconds for side, _ in pairs for seconds in side.seconds[SETTLED_CHUNKS:]
            ),
            "film_percent_over": interval(films),
            "films_percent_over": [round(film, 2) for film in films],
            "shot_percent_over": interval(
                100 * (side.seconds[begin] / usual[begin] - 1)
                for side, usual in pairs
                for begin in begins
            ),
        }
    return figures


def _one_prompt(sides: dict[str, Side]) -> list[float]:
    """Seconds of each chunk with one prompt, the mean of all films of that kind."""
    films = [side.seconds for name, side in sides.items() if SIDES[name] is None]
    return [statistics.fmean(chunks) for chunks in zip(*films, strict=True)]


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--chunks", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--dim", type=int, default=256, help="model width, a multiple of 128")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=[208, 112], metavar=("W", "H"))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    options = parser.parse_args()
    shape = replace(common.shape_of(options), text_tokens=TEXT_TOKENS)
    torch.set_num_threads(1)
    names = list(dict.fromkeys([ONE, *options.sides]))
    rounds = []
    for first in range(options.rounds):  # whoever begins
        order = names[first % len(names) :] + names[: first % len(names)]
        rounds.append(measure_round(order, shape, options.chunks))
    figures = compared(rounds, options.chunks)
    for name, row in figures.items():
        print(name, row)
    common.finish(common.result("ten_shots", shape, figures), save=options.save)


if __name__ == "__main__":
    main()
