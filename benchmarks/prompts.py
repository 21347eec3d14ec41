"""How often a video of the bundled models shows what its prompt asks, at its beginning and its end.

Prompts that the model was not trained on, each with its own noise, a minute each, with the paper's
memory: is the main thing there in its colour and its shape? Last line: JSON.
"""

import common
import torch
from policy_lab import (
    BATCH,
    LOOK_SECONDS,
    PAPER,
    POLICIES,
    SHAPE,
    VIDEO_SECONDS,
    interval,
    looks,
    pairs,
    rollout,
)

from demo.bundle import MODEL, SHIFT, load_vae
from demo.world import FRAMES_PER_SECOND
from relax_memory.host.checkpoint import load_checkpoint

MOMENTS = (LOOK_SECONDS[0], LOOK_SECONDS[-1])


@torch.inference_mode()
def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=VIDEO_SECONDS, help="length of the videos")
    options = parser.parse_args()
    length = FRAMES_PER_SECOND * options.seconds - 3
    moments = [second for second in MOMENTS if second < options.seconds]
    model, vae = load_checkpoint(str(MODEL), shift=SHIFT), load_vae()
    scenes, right = pairs(options.prompts), {second: [] for second in moments}
    for first in range(0, len(scenes), BATCH):
        batch = scenes[first : first + BATCH]
        latents, _ = rollout(model, POLICIES[PAPER], batch, length, seed=first)
        for second, seen in zip(moments, looks(vae, latents, batch, moments), strict=True):
            right[second] += [report.follows_prompt for report in seen]
        print({second: f"{sum(r)} of {len(r)}" for second, r in right.items()}, flush=True)
    figures = {
        f"second {second}": {"right": sum(r), "of": len(r), "share": interval(map(float, r))}
        for second, r in right.items()
    }
    common.finish(common.result("prompts", SHAPE, figures), save=options.save)


if __name__ == "__main__":
    main()
