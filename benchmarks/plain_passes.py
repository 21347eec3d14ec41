"""A steady chunk beside five plain passes of the model that read as many keys, in turns by chunk.

The plain side attends to keys and values that lie ready, and remembers nothing; what is left is
what memory costs. Of a model that computes, and of one so thin that only issuing its work takes
time. The processor's own seconds count, on one thread; those of the clock stand beside them. Both
sides keep memory that they free, since what the allocator gives back to the system is luck. Last
line: JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

import common
import torch
from common import CHUNK_FRAMES, SIGMAS, Shape, median
from turns import Turn, run_in_turns

from relax_memory.host.model.attention import with_memory
from relax_memory.host.sampling.sampler import MemorySampler
from relax_memory.memory.storage import Storage
from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory

SIDES = ("relaxed", "plain")
KEEP_MEMORY = {f"MALLOC_{name}_THRESHOLD_": str(1 << 30) for name in ("MMAP", "TRIM")}
POLICY = RelaxedMemory(reservoir_frames=24)
PASSES = len(SIGMAS)  # four steps and the clean pass
SETTLED_CHUNKS = 9  # until memory is full
SHAPES = {
    "computing": Shape(
        dim=256, ffn_dim=512, layers=3, width=384, height=256, text_tokens=64, dtype="float32"
    ),
    "issuing": Shape(
        dim=128, ffn_dim=128, layers=30, width=32, height=32, text_tokens=8, dtype="float32"
    ),
}
CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}


class Clock:
    """Seconds of each chunk, by every clock: from its first pass to the first one of the next."""

    def __init__(self, turn: Turn) -> None:
        self._turn, self._calls = turn, 0
        self._begin: dict[str, float] = {}
        self.seconds: dict[str, list[float]] = {name: [] for name in CLOCKS}

    def __call__(self, apply_model: Callable, arguments: dict) -> torch.Tensor:
        if self._calls % PASSES == 0:
            if self._calls:
                for name, now in CLOCKS.items():
                    self.seconds[name].append(now() - self._begin[name])
                self._turn.pass_on()
            else:
                self._turn.ready()
            self._begin = {name: now() for name, now in CLOCKS.items()}
        self._calls += 1
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])


class PlainPasses(common.comfy.samplers.Sampler):
    """As many passes over three frames as our sampler makes for these latents."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
        x = noise[:, :, :CHUNK_FRAMES]
        for _ in range(noise.shape[2] // CHUNK_FRAMES):
            for sigma in sigmas:
                model_wrap(x, sigma * x.new_ones(len(x)), **extra_args)
        return noise


def reading(frames: int, shape: Shape) -> Callable:
    """Has self-attention read keys and values of `frames` frames that lie ready."""
    own, all_frames = CHUNK_FRAMES * shape.tokens, frames * shape.tokens
    ready = [torch.randn(1, all_frames, shape.dim) for _ in range(2)]

    def attend(attention, query, keys, values, *args, **kwargs):
        if keys.shape[1] == own:
            keys, values = ready
        return attention(query, keys, values, *args, **kwargs)

    return attend


def measure(side: str, shape: Shape, chunks: int) -> dict[str, list[float]]:
    """Seconds of each chunk by every clock."""
    torch.set_num_threads(1)
    frames = chunks * CHUNK_FRAMES
    if side == "relaxed":
        model = with_memory(common.causal_model(shape), POLICY, Storage(device="gpu"))
        sampler = MemorySampler(CHUNK_FRAMES)
    else:
        plan = Plan(POLICY, total_frames=frames, chunk_frames=CHUNK_FRAMES)
        model, sampler = common.causal_model(shape).clone(), PlainPasses()
        options = model.model_options["transformer_options"]
        options["optimized_attention_override"] = reading(plan.buffer_frames, shape)
    clock = Clock(Turn())
    model.set_model_unet_function_wrapper(clock)
    common.sample(model, sampler, shape, frames)
    return clock.seconds


def compare(section: str, chunks: int) -> dict:
    """Both sides, in turns."""
    arguments = ["--section", section, "--chunks", str(chunks), "--side"]
    commands = {side: [sys.executable, sys.argv[0], *arguments, side] for side in SIDES}
    outputs = run_in_turns(commands, dict.fromkeys(SIDES, os.environ | KEEP_MEMORY))
    seconds = {name: json.loads(out.splitlines()[-1]) for name, out in outputs.items()}
    return {
        clock: figures({s: seconds[s][clock][SETTLED_CHUNKS:] for s in SIDES}) for clock in CLOCKS
    }


def figures(steady: dict[str, list[float]]) -> dict:
    """Medians of both sides, and of the pairs."""
    pairs = list(zip(steady["relaxed"], steady["plain"], strict=False))  # the last is shorter there
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    return {
        "seconds_per_chunk": {name: median(values) for name, values in steady.items()},
        "relaxed_over_plain": round(median(ratios), 4),
        "quartiles": [round(ratios[len(ratios) * part // 4], 4) for part in (1, 3)],
        "pairs": len(pairs),
    }


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--only", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--section", choices=SHAPES, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, SHAPES[options.section], options.chunks)))
        return
    torch.set_num_threads(1)  # as the sides do
    sections = {}
    for section in options.only:
        sections[section] = compare(section, options.chunks)
        print(f"{section:12}{sections[section]}", flush=True)
    common.finish(common.result("plain_passes", SHAPES["computing"], sections), save=options.save)


if __name__ == "__main__":
    main()
