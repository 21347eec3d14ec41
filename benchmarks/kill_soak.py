"""Kills a process that samples or streams, again and again, and counts what is lost by it.

Every second kill waits for a random moment, the others for one at which a chunk is being saved.
Each rollout is continued until it is complete and then compared with an undisturbed one; the video
of each killed stream must show every chunk that its run has saved. Processes are forked from one
that has imported the host; they share nothing else.
"""

import random
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import common
import crash_run
import numpy
import safetensors.torch
import torch

SHAPE = common.Shape(
    dim=256, ffn_dim=512, layers=3, width=48, height=32, text_tokens=8, dtype="float32"
)
FINISHED = "live_?????_.mp4"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A run that nobody disturbs: what makes it, what it gives, and how long it takes."""

    run: Callable
    latents: torch.Tensor
    pictures: numpy.ndarray | None
    seconds: float


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--streams", action="store_true", help="every second rollout is a stream")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(Path(folder), options.kills, streams=options.streams)
    common.finish(common.result("kill_soak", SHAPE, figures), save=options.save)


def soak(folder: Path, kills: int, *, streams: bool) -> dict:
    """Rollouts until there were so many kills; what they cost."""
    expected = [undisturbed(crash_run.sample, folder / "sampler")]
    done = {"kills": 0, "kills_while_writing": 0, "rollouts": 0, "runs_without_a_kill": 0}
    done |= {"chunks_per_rollout": crash_run.CHUNKS, "finished_chunks_lost_or_made_again": 0}
    done |= {"rollouts_with_other_latents": 0}
    if streams:
        expected.append(undisturbed(crash_run.stream, folder / "stream"))
        done |= {"streams": 0, "videos_of_killed_runs": 0, "saved_chunks_not_in_a_video": 0}
        done |= {"videos_with_other_pictures": 0, "partial_videos_left_at_the_end": 0}
    while done["kills"] < kills:
        output, wanted = folder / f"{done['rollouts']}", expected[done["rollouts"] % len(expected)]
        while not (output / "result").exists():
            run_once(output, wanted, done)
        latents = safetensors.torch.load_file(output / "result")["latents"]
        done["rollouts"] += 1
        done["rollouts_with_other_latents"] += not torch.equal(latents, wanted.latents)
        if wanted.pictures is not None:
            check_video(output, wanted.pictures, done)
        print(done, flush=True)
    return done


def undisturbed(run: Callable, folder: Path) -> Expected:
    run(folder / "warm", autosave=False)
    start = time.perf_counter()
    latents, result = run(folder / "undisturbed")
    seconds = time.perf_counter() - start
    pictures = crash_run.pictures(result) if isinstance(result, Path) else None
    return Expected(run=run, latents=latents, pictures=pictures, seconds=seconds)


def run_once(output: Path, wanted: Expected, done: dict) -> None:
    """Continue the rollout in `output` until it is complete or the process is killed."""
    before, videos, left = crash_run.saved_files(output), videos_of(output), parts(output)
    process = crash_run.start(output, output / "result", wanted.run)
    again = 0 if wanted.pictures is None else len(before) / crash_run.CHUNKS  # decoded first
    process.join(random.uniform(0, wanted.seconds * (1 + again) / 2))
    if done["kills"] % 2:
        while process.is_alive() and parts(output) <= left:
            time.sleep(1e-4)
    process.kill()
    process.join()
    killed = process.exitcode != 0
    done["kills" if killed else "runs_without_a_kill"] += 1
    done["kills_while_writing"] += killed and not parts(output) <= left
    after = crash_run.saved_files(output)
    done["finished_chunks_lost_or_made_again"] += sum(before[f] != after.get(f) for f in before)
    if killed and wanted.pictures is not None:
        new = videos_of(output) - videos
        seen = sum(chunks_seen(video, wanted.pictures, done) for video in new)
        done["videos_of_killed_runs"] += len(new)
        if len(after) > len(before):
            done["saved_chunks_not_in_a_video"] += max(0, len(after) - seen)


def videos_of(output: Path) -> set[Path]:
    """The growing ones, and one that was finished just before a kill."""
    return crash_run.unfinished_videos(output) | set(output.rglob(FINISHED))


def chunks_seen(video: Path, whole: numpy.ndarray, done: dict) -> int:
    try:
        return crash_run.chunks_in(video, whole)
    except AssertionError:
        done["videos_with_other_pictures"] += 1
        return 0


def check_video(output: Path, pictures: numpy.ndarray, done: dict) -> None:
    """What a finished stream has left in `output`."""
    videos = list(output.rglob(FINISHED))
    same = [numpy.array_equal(crash_run.pictures(video), pictures) for video in videos]
    done["streams"] += 1
    done["videos_with_other_pictures"] += same.count(False) + (not same)
    done["partial_videos_left_at_the_end"] += len(crash_run.unfinished_videos(output))


def parts(output: Path) -> set[tuple[Path, int]]:
    """Files that are being written, or were when a process was killed, and when they began."""
    found = set()
    for path in output.glob("relax_forcing/*/part"):
        with suppress(OSError):  # finished meanwhile
            found.add((path, path.stat().st_mtime_ns))
    return found


if __name__ == "__main__":
    main()
