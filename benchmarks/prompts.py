"""How often a video of the bundled models shows what its prompt asks, at its beginning and its end.

Prompts that the model was not trained on, each with its own noise, a minute each, with the paper's
memory: is the main thing there in its colour and its shape? Last line: JSON.
"""

import common
import torch
from policy_lab import (
    LOOK_SECONDS,
    PAPER,
    POLICIES,
    SHAPE,
    VIDEO_SECONDS,
    interval,
)

from demo.bundle import MODEL, SHIFT, load_vae
from lab.observe import observe, pairs
from lab.world import FRAMES_PER_SECOND
from relax_memory.host.loading.checkpoint import load_checkpoint

MOMENTS = (LOOK_SECONDS[0], LOOK_SECONDS[-1])


def counted(right: list[bool]) -> dict:
    return {"right": sum(right), "of": len(right), "share": interval(map(float, right))}


@torch.inference_mode()
def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=VIDEO_SECONDS, help="length of the videos")
    options = parser.parse_args()
    length = FRAMES_PER_SECOND * options.seconds - 3
    moments = [second for second in MOMENTS if second < options.seconds]
    model, vae = load_checkpoint(str(MODEL), shift=SHIFT), load_vae()
    scenes = pairs(options.prompts)
    reports, _ = observe(model, vae, POLICIES[PAPER], scenes, length, moments)
    figures = {}
    for second, seen in zip(moments, reports, strict=True):
        right = {1: [], 2: []}  # by the number of things
        for report, scene in zip(seen, scenes, strict=True):
            right[len(scene.things)].append(report.follows_prompt)
        figures[f"second {second}"] = {
            "all": counted(right[1] + right[2]),
            "one thing": counted(right[1]),
            "two things": counted(right[2]),
        }
    common.finish(common.result("prompts", SHAPE, figures), save=options.save)


if __name__ == "__main__":
    main()
