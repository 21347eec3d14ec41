"""What a video will cost and remember on this machine, without sampling."""

import math

import numpy
from comfy.model_patcher import ModelPatcher

from ...memory.storage import Storage
from ...picture.timeline import draw_plan
from ...picture.words import Passes, TierCost, describe_plan
from ...policies import RelaxedMemory
from ...storyboard import Storyboard
from ..following import AS_MADE, chunk_frames, follow
from ..gates.latent import check_size
from ..keeping.pace import chunk_seconds
from ..model.attention import check_supported, with_memory
from ..model.family import grid_of
from ..options import Options, options_of
from .budget import Budget, make_budget


def forecast(  # noqa: PLR0913  (the inputs of its node)
    model: ModelPatcher,
    *,
    width: int,
    height: int,
    length: int,
    frames_per_chunk: int,
    batch_size: int,
    steps: int = 0,
    clean_pass: str = AS_MADE,
    cfg: float = 1.0,
) -> tuple[str, numpy.ndarray]:
    """The plan of a video of `length` video frames in words, and as a picture uint8 `[H, W, 3]`.

    Counts one conditioning at cfg 1, else two. `frames_per_chunk` and `steps` 0: as the
    checkpoint was made.

    Raises:
        ValueError: a model or sizes that cannot be sampled.
    """
    check_supported(model.get_model_object("diffusion_model"))
    grid = grid_of(model)
    check_size(width, height, grid)
    remembered = options_of(model) or Options(policy=RelaxedMemory())
    storyboard = Storyboard(
        remembered.policy,
        total_frames=grid.latent_frames(length),
        chunk_frames=chunk_frames(model, frames_per_chunk),
        grid=grid,
    )
    followed, notes = follow(
        model,
        steps=steps,
        frames_per_chunk=frames_per_chunk,
        sigmas=None,
        sigmas_first=None,
        clean_pass=clean_pass,
    )
    first, steps = followed["sigmas_first"], followed["steps"]
    passes = Passes(
        first_steps=steps if first is None else len(first) - 1,
        steps=steps,
        clean_pass=followed["clean_pass"],
    )
    latent_height, latent_width = grid.latent_size(width, height)
    rows = batch_size if math.isclose(cfg, 1.0) else 2 * batch_size
    size = {"rows": rows, "height": latent_height, "width": latent_width}
    chosen = make_budget(model, storyboard, remembered.storage, **size)
    tiers = [
        make_budget(model, storyboard, Storage(device=device, dtype=dtype), **size)
        for device in ("gpu", "cpu")
        for dtype in (("model", "fp8") if storyboard.policy.stored_by_choice else ("model",))
    ]
    text = describe_plan(
        storyboard,
        length=length,
        grid=grid,
        weights_bytes=chosen.weights_bytes,
        chunk_bytes=chosen.chunk_bytes,
        tiers=[_tier(budget, chosen) for budget in tiers],
        passes=passes,
        chunk_seconds=chunk_seconds(
            model if options_of(model) else with_memory(model, RelaxedMemory()),
            {
                "width": width,
                "height": height,
                "frames_per_chunk": storyboard.chunk_frames,
                "batch_size": batch_size,
                "steps": steps,
                "cfg": cfg,
            },
        ),
        remarks=notes,
    )
    return text, draw_plan(storyboard)


def _tier(budget: Budget, chosen: Budget) -> TierCost:
    storage = budget.storage
    return TierCost(
        name=f"reservoir_device {storage.device}, reservoir_dtype {storage.dtype}",
        device_bytes=budget.device_bytes,
        host_bytes=budget.host_bytes,
        fits=budget.fits,
        chosen=storage == chosen.storage,
    )
