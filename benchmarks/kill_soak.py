"""Kills a process that samples with autosave, again and again, and counts what is lost by it.

Every second kill waits for a random moment, the others for one at which a file is being written.
Each rollout is continued until it is complete and then compared with an undisturbed one. Processes
are forked from one that has imported the host; they share nothing else.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

import common
import torch

sys.path.append(str(common.ROOT / "tests"))

import crash_run
import safetensors.torch

SHAPE = common.Shape(
    dim=256, ffn_dim=512, layers=3, width=48, height=32, text_tokens=8, dtype="float32"
)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(Path(folder), options.kills)
    common.finish(common.result("kill_soak", SHAPE, figures), save=options.save)


def soak(folder: Path, kills: int) -> dict:
    """Rollouts until there were so many kills; what they cost."""
    crash_run.sample(folder / "warm", autosave=False)
    start = time.perf_counter()
    undisturbed, _ = crash_run.sample(folder / "undisturbed")
    seconds = time.perf_counter() - start
    done = {"kills": 0, "kills_while_writing": 0, "rollouts": 0, "runs_without_a_kill": 0}
    done |= {"chunks_per_rollout": crash_run.CHUNKS, "finished_chunks_lost_or_made_again": 0}
    done |= {"rollouts_with_other_latents": 0}
    while done["kills"] < kills:
        output = folder / f"{done['rollouts']}"
        while not (output / "result").exists():
            run_once(output, seconds, done)
        latents = safetensors.torch.load_file(output / "result")["latents"]
        done["rollouts"] += 1
        done["rollouts_with_other_latents"] += not torch.equal(latents, undisturbed)
        print(done, flush=True)
    return done


def run_once(output: Path, seconds: float, done: dict) -> None:
    """Continue the rollout in `output` until it is complete or the process is killed."""
    before = crash_run.saved_files(output)
    process = crash_run.start(output, output / "result")
    process.join(random.uniform(0, seconds / 2))
    if done["kills"] % 2:
        while process.is_alive() and not writing(output):
            time.sleep(1e-4)
    process.kill()
    process.join()
    killed = process.exitcode != 0
    done["kills" if killed else "runs_without_a_kill"] += 1
    done["kills_while_writing"] += killed and writing(output)
    after = crash_run.saved_files(output)
    done["finished_chunks_lost_or_made_again"] += sum(before[f] != after.get(f) for f in before)


def writing(output: Path) -> bool:
    """Whether a file is unfinished."""
    return any(output.glob("relax_forcing/*/part"))


if __name__ == "__main__":
    main()
