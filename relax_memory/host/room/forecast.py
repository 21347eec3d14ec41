"""What a video will cost and remember on this machine, without sampling."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy
from comfy.model_patcher import ModelPatcher

from ...direction.beginnings import beginnings
from ...grid import WAN, Grid
from ...memory.costs import ModelShape
from ...memory.storage import Storage
from ...picture.timeline import draw_plan
from ...picture.words import Passes, TierCost, describe_plan, gigabytes
from ...policies import RelaxedMemory
from ...scenes import WHOLE
from ...storyboard import SCENES, Storyboard
from ..following import AS_MADE, follow
from ..gates.latent import check_size
from ..keeping.pace import chunk_seconds
from ..model.attention import check_supported, with_memory
from ..model.family import grid_of, network_of
from ..model.text import longest
from ..options import Options, options_of
from ..shots import laid_out
from ..steering.source import source_of
from .budget import Budget, make_budget, model_shape
from .cards import compare_cards, in_words, longest_reservoir
from .parking import waiting


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
    fps: float = WAN.fps,
    positive: list | None = None,
) -> tuple[str, numpy.ndarray]:
    """The plan of a video of `length` video frames in words, and as a picture uint8 `[H, W, 3]`.

    Counts the entries of the positive conditioning, one without it, and one more where cfg is not
    1. `frames_per_chunk` and `steps` 0: as the checkpoint was made. `positive` may carry shots.

    Raises:
        ValueError: a model, sizes or shots that cannot be sampled.
    """
    check_supported(model.get_model_object("diffusion_model"))
    grid = replace(grid_of(model), fps=fps)
    check_size(width, height, grid)
    remembered = options_of(model) or Options(policy=RelaxedMemory())
    followed, notes = follow(
        model,
        steps=steps,
        frames_per_chunk=frames_per_chunk,
        sigmas=None,
        sigmas_first=None,
        clean_pass=clean_pass,
    )
    total_frames = grid.latent_frames(length)
    film, said = laid_out(
        {SCENES: positive},
        pieces=WHOLE,
        total_frames=total_frames,
        chunk_frames=followed["frames_per_chunk"],
        prefix_frames=0,
        fps=fps,
        clean_pass=followed["clean_pass"],
    )
    words = beginnings(film.words)
    storyboard = Storyboard(
        remembered.policy,
        total_frames=total_frames,
        chunk_frames=followed["frames_per_chunk"],
        shots=film.shots,
        steerable=source_of(positive) is not None,
        grid=grid,
    )
    first, steps = followed["sigmas_first"], followed["steps"]
    latent_height, latent_width = grid.latent_size(width, height)
    rows = batch_size * (len(positive or [None]) + (not math.isclose(cfg, 1.0)))
    shape = model_shape(model, latent_height, latent_width)
    size = {"rows": rows, "height": latent_height, "width": latent_width}
    usual_tokens = network_of(model).text_len
    size["text_tokens"] = max(usual_tokens, longest(text for text, *_ in positive or ()))
    chosen = make_budget(model, storyboard, remembered.storage, **size)
    passes = Passes(
        first_steps=steps if first is None else len(first) - 1,
        steps=steps,
        clean_pass=followed["clean_pass"],
        parked=frozenset(waiting(chosen, storyboard)),
    )
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
        cards=[
            f"this one ({chosen.device}, {gigabytes(chosen.device_free_bytes)} free): "
            f"{in_words(chosen)}",
            *compare_cards(chosen, replace(chosen.storage, device=remembered.storage.device)),
            *_reservoir(chosen, storyboard, shape, rows, grid),
        ],
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
        shots=words,
        scene_bytes=[scene.bytes for scene in chosen.scenes],
        remarks=[*notes, *said],
    )
    return text, draw_plan(storyboard, fps=fps, words=words)


def _tier(budget: Budget, chosen: Budget) -> TierCost:
    storage = budget.storage
    return TierCost(
        name=f"reservoir_device {storage.device}, reservoir_dtype {storage.dtype}",
        device_bytes=budget.device_bytes,
        host_bytes=budget.host_bytes,
        fits=budget.fits,
        chosen=storage == chosen.storage,
    )


def _reservoir(
    budget: Budget, storyboard: Storyboard, shape: ModelShape, rows: int, grid: Grid
) -> Iterator[str]:
    """How much of the past host memory could hold, where there is a reservoir to choose."""
    policy = storyboard.policy
    if policy.fewest_reservoir_frames(storyboard.chunk_frames) is None:
        return
    scene = max(storyboard.plans, key=lambda plan: plan.total_frames or 0)
    free_bytes = budget.host_free_bytes
    frames = longest_reservoir(policy, shape, budget.storage, free_bytes, plan=scene, rows=rows)
    held = f"a reservoir of {grid.seconds(frames):g} s (reservoir_frames {frames})"
    if not frames:
        held = "no reservoir"
    elif frames >= (scene.total_frames or 0):
        held = "all of it"
    yield f"{gigabytes(free_bytes)} of host memory, as are free here, could hold {held}"
