"""The speed of two versions of the pack, chunk by chunk in turns, on the same small model.

Give the folder of another checkout. Each version runs its own sampler node in a process of its own
on one thread, and what counts is the time that the processor spends on it. Last line: JSON with the
median seconds of a chunk of each and the median of their ratios.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

from turns import Turn, run_in_turns

ROOT = Path(__file__).resolve().parent.parent
SKIPPED_CHUNKS = 9  # until memory is full
STEPS = 4


def make(chunks: int, size: int) -> list[float]:
    """Seconds of processor of each chunk, from its first step to the end of the clean pass."""
    import tiny

    turn = Turn()
    memory = {"reservoir_frames": 24, "reservoir_device": "gpu"}
    model = tiny.remembering(**memory).clone()
    seconds, calls = [], [0, 0.0]

    def clock(apply_model, arguments):
        if calls[0] % (STEPS + 1) == 0:
            if calls[0]:
                seconds.append(time.process_time() - calls[1])
            (turn.pass_on if calls[0] else turn.ready)()
            calls[1] = time.process_time()
        calls[0] += 1
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(clock)
    inputs = {"width": size, "height": size, "length": 12 * chunks - 3, "seed": 3, "steps": STEPS}
    inputs |= {"cfg": 1.0, "frames_per_chunk": 3, "batch_size": 1, "autosave": False}
    tiny.node("RelaxForcingSampler", model=model, positive=tiny.conditioning(1), **inputs)
    return seconds


def main() -> None:
    os.environ.setdefault("COMFYUI_PATH", str(ROOT / ".comfyui"))  # one host for both
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path, help="folder of another version")
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(make(options.chunks, options.size)))
        return
    trees = {"other": options.other.resolve(), "this": ROOT}
    arguments = [
        str(options.other),
        "--side",
        f"--chunks={options.chunks}",
        f"--size={options.size}",
    ]
    commands = {name: program(tree, arguments) for name, tree in trees.items()}
    outputs = run_in_turns(commands, dict.fromkeys(trees, dict(os.environ)))
    seconds = {name: json.loads(out.splitlines()[-1]) for name, out in outputs.items()}
    steady = {name: values[SKIPPED_CHUNKS:] for name, values in seconds.items()}
    pairs = list(zip(steady["this"], steady["other"], strict=True))
    figures = {
        "seconds_per_chunk": {name: round(median(values), 5) for name, values in steady.items()},
        "this_over_other": round(median(this / other for this, other in pairs), 4),
        "chunks": len(pairs),
    }
    print(json.dumps({"benchmark": "two_versions", "figures": figures}))


def program(tree: Path, arguments: list[str]) -> list[str]:
    """The command that runs this file on the modules of `tree`."""
    path = [str(tree), str(tree / "tests"), str(ROOT / "benchmarks")]
    lines = f"import sys; sys.path[:0] = {path!r}; sys.argv = {['', *arguments]!r}\n"
    lines += f"import conftest, runpy; runpy.run_path({str(Path(__file__))!r}, run_name='__main__')"
    return [sys.executable, "-c", lines]


if __name__ == "__main__":
    main()
