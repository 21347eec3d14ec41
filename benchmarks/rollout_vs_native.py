"""Relaxed memory beside the host's own sampler: the same weights, chunk by chunk in turns.

Our side is the SAMPLER that RelaxForcingSamplerSelect returns, with the paper's memory settings;
the other is SamplerARVideo, which attends to every past frame. The default is a model small enough
for a CPU, with frames of 384 tokens so that attention matters. Last line: JSON.
"""

import argparse
import json
import os
import sys

import common
from common import CHUNK_FRAMES, Shape, median
from turns import Turn, run_in_turns

from relax_memory.host.model.attention import with_memory
from relax_memory.host.options import options_in
from relax_memory.host.sampling.sampler import MemorySampler
from relax_memory.memory.storage import Storage
from relax_memory.policies import RelaxedMemory

SIDES = ("relaxed", "native")
EDGE_CHUNKS = 3  # chunks whose median stands for the start or the end of a video
STEADY_CHUNKS = 10  # of the comparison for flatness, on either end of what follows the first ten


class KeyValueBytes:
    """A model wrapper that reads how large the living keys and values are."""

    def __init__(self) -> None:
        self.most = 0

    def __call__(self, apply_model, arguments):
        options = arguments["c"]["transformer_options"]
        out = apply_model(arguments["input"], arguments["timestep"], **arguments["c"])
        self.most = max(self.most, self._held(options))
        return out

    def _held(self, options: dict) -> int:
        if remembered := options_in(options):
            return remembered.session.bytes
        caches = options["ar_state"]["kv_caches"]
        return sum(cache[name].untyped_storage().nbytes() for cache in caches for name in "kv")


class TurnClock(common.ChunkClock):
    """Seconds of each chunk, without those in which the other side has its turn."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self._turn = turn
        self._spans: list[tuple] = []
        turn.ready()
        self._begin = common.moment()

    def __call__(self) -> None:
        super().__call__()
        if self._calls % self._steps == 0:
            self._spans.append((self._begin, common.moment()))
            common.synchronize()
            self._turn.pass_on()
            self._begin = common.moment()

    @property
    def seconds(self) -> list[float]:
        common.synchronize()
        return [common.elapsed(*span) for span in self._spans]


def measure(model, sampler, shape: Shape, frames: int, turn: Turn) -> dict:
    """One video: seconds in all, per chunk at both ends, and the most bytes of keys and values."""
    model, held = model.clone(), KeyValueBytes()
    model.set_model_unet_function_wrapper(held)
    clock = TurnClock(turn)
    common.sample(model, sampler, shape, frames, clock)
    seconds = clock.seconds
    figures = {
        "seconds": median([sum(seconds)]),
        "seconds_per_chunk_start": median(seconds[1 : 1 + EDGE_CHUNKS]),
        "seconds_per_chunk_end": median(seconds[-EDGE_CHUNKS:]),
        "key_value_bytes": held.most,
        "key_value_frames": round(held.most / shape.frame_bytes, 1),
    }
    if len(seconds) >= 10 + 2 * STEADY_CHUNKS:
        tenth = median(seconds[10 : 10 + STEADY_CHUNKS])
        figures["seconds_per_chunk_from_10"] = tenth
        last = median(seconds[-STEADY_CHUNKS:])
        figures["seconds_per_chunk_last_10"] = last
        figures["growth_from_10_percent"] = round(100 * (last / tenth - 1), 2)
    return figures


def measure_side(name: str, shape: Shape, lengths: list[int]) -> dict[str, dict]:
    """The figures of one side by length, in turns with the other."""
    model = common.causal_model(shape)
    if name == "relaxed":
        model = with_memory(model, RelaxedMemory(), Storage(device="gpu"))
        sampler = MemorySampler(CHUNK_FRAMES)
    else:
        sampler = common.native_sampler()
    common.sample(model, sampler, shape, 3 * CHUNK_FRAMES)  # warm up
    turn = Turn()
    return {str(frames): measure(model, sampler, shape, frames, turn) for frames in lengths}


def show(frames: str, row: dict) -> None:
    for name in SIDES:
        figures = row[name]
        print(
            f"{frames:>4} frames, {name:8}{figures['seconds']:9.2f} s, chunk at the start "
            f"{figures['seconds_per_chunk_start']:8.4f}, end "
            f"{figures['seconds_per_chunk_end']:8.4f}, "
            f"{figures['key_value_bytes'] / 1e6:8.1f} MB = {figures['key_value_frames']} frames"
        )
    growth = row["relaxed"].get("growth_from_10_percent")
    flat = "" if growth is None else f"; relaxed grows by {growth} % from chunk 10 on"
    print(f"             {row['speedup']}x faster in all{flat}", flush=True)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[21, 60, 120], metavar="LATENT")
    parser.add_argument("--dim", type=int, default=256, help="model width, a multiple of 128")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=[384, 256], metavar=("W", "H"))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = common.shape_of(options)
    if options.side:
        print(json.dumps(measure_side(options.side, shape, options.frames)))
        return
    print(
        f"{common.device_name()}; {shape.tokens} tokens a latent frame, dim {shape.dim}, ", end=""
    )
    print(f"{shape.layers} layers; seconds per chunk of {CHUNK_FRAMES} latent frames")
    commands = {name: [sys.executable, *sys.argv, "--side", name] for name in SIDES}
    outputs = run_in_turns(commands, dict.fromkeys(SIDES, dict(os.environ)))
    sides = {name: json.loads(output.splitlines()[-1]) for name, output in outputs.items()}
    lengths = {}
    for frames in map(str, options.frames):
        row = {name: sides[name][frames] for name in SIDES}
        row["speedup"] = round(row["native"]["seconds"] / row["relaxed"]["seconds"], 2)
        lengths[frames] = row
        show(frames, row)
    figures = {"chunk_frames": CHUNK_FRAMES, "steps": len(common.SIGMAS) - 1, "lengths": lengths}
    common.finish(common.result("rollout_vs_native", shape, figures), save=options.save)


if __name__ == "__main__":
    main()
