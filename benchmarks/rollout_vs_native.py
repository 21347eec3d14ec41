"""Relaxed memory beside the host's own sampler: the same weights, chunk by chunk in turns.

Our side is the SAMPLER that RelaxForcingSamplerSelect returns, with the paper's memory settings;
the other is SamplerARVideo, which attends to every past frame. The default is a model small enough
for a CPU, with frames of 384 tokens so that attention matters. Last line: JSON.
"""

import common
from common import CHUNK_FRAMES, Shape, median
from interleaved import TurnClock, in_turns

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


class Side:
    """A video of one of the samplers: its clock, and what it has held once it is made."""

    def __init__(self, name: str, shape: Shape, frames: int) -> None:
        model, sampler = common.causal_model(shape), common.native_sampler()
        if name == "relaxed":
            model = with_memory(model, RelaxedMemory(), Storage(device="gpu"))
            sampler = MemorySampler(CHUNK_FRAMES)
        self.clock, self.held = TurnClock(), KeyValueBytes()
        model.set_model_unet_function_wrapper(self.held)
        self._sample = model, sampler, shape, frames, self.clock

    def make(self) -> None:
        common.sample(*self._sample)


def measure(shape: Shape, frames: int) -> dict[str, dict]:
    """The figures of both sides, made in turns."""
    sides = {name: Side(name, shape, frames) for name in SIDES}
    in_turns({side.clock: side.make for side in sides.values()})
    return {name: figures_of(side, shape) for name, side in sides.items()}


def figures_of(side: Side, shape: Shape) -> dict:
    """One video: seconds in all, per chunk at both ends, and the most bytes of keys and values."""
    seconds = side.clock.seconds
    figures = {
        "seconds": median([sum(seconds)]),
        "seconds_per_chunk_start": median(seconds[1 : 1 + EDGE_CHUNKS]),
        "seconds_per_chunk_end": median(seconds[-EDGE_CHUNKS:]),
        "key_value_bytes": side.held.most,
        "key_value_frames": round(side.held.most / shape.frame_bytes, 1),
    }
    if len(seconds) >= 10 + 2 * STEADY_CHUNKS:
        tenth = median(seconds[10 : 10 + STEADY_CHUNKS])
        figures["seconds_per_chunk_from_10"] = tenth
        last = median(seconds[-STEADY_CHUNKS:])
        figures["seconds_per_chunk_last_10"] = last
        figures["growth_from_10_percent"] = round(100 * (last / tenth - 1), 2)
    return figures


def show(frames: int, row: dict) -> None:
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
    options = parser.parse_args()
    shape = common.shape_of(options)
    print(
        f"{common.device_name()}; {shape.tokens} tokens a latent frame, dim {shape.dim}, ", end=""
    )
    print(f"{shape.layers} layers; seconds per chunk of {CHUNK_FRAMES} latent frames")
    measure(shape, 3 * CHUNK_FRAMES)  # warm up
    lengths = {}
    for frames in options.frames:
        row = measure(shape, frames)
        row["speedup"] = round(row["native"]["seconds"] / row["relaxed"]["seconds"], 2)
        lengths[str(frames)] = row
        show(frames, row)
    figures = {"chunk_frames": CHUNK_FRAMES, "steps": len(common.SIGMAS) - 1, "lengths": lengths}
    common.finish(common.result("rollout_vs_native", shape, figures), save=options.save)


if __name__ == "__main__":
    main()
