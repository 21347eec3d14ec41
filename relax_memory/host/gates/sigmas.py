"""What a noise schedule may be: levels of a flow, from pure noise to none."""

from typing import cast

import torch
from torch import Tensor

HIGHEST = 1.0
ROUNDING = 1e-3
MOST_SHOWN = 8


def check_sigmas(sigmas: Tensor, *, first: float | None, name: str = "sigmas") -> None:
    """Raise ValueError unless these are noise levels of a flow that descend and end in 0.

    Args:
        first: the model's first level where there is no video to start from; None: any will do.
    """
    if sigmas.ndim != 1:
        raise ValueError(
            f"{name} has shape {list(sigmas.shape)}, but one row of noise levels is needed: "
            "connect a scheduler."
        )
    levels = sigmas.tolist()
    shown = _shown(levels)
    if any(level > HIGHEST + ROUNDING for level in levels):
        raise ValueError(
            f"{name} are {shown}, but this model's noise levels lie between 1 and 0: use Basic "
            "Scheduler with this model instead of one for other models, or divide timesteps by "
            "1000."
        )
    descends = all(a > b for a, b in zip(levels, levels[1:], strict=False))
    if len(levels) < 2 or not descends or levels[-1] != 0:
        raise ValueError(
            f"{name} are {shown}, but they must descend and end in 0, as 1.0, 0.9375, 0.8333, "
            "0.625, 0 does: connect the whole schedule of Basic Scheduler with this model, and "
            "set the model's shift near 5."
        )
    if first is not None and levels[0] < first - ROUNDING:
        raise ValueError(
            f"{name} begin at {levels[0]:.4g}, but this model begins at {first:.4g} and there is "
            "no video to start from, only noise: set denoise to 1.0 and use a scheduler that "
            "begins at the top, such as simple."
        )


def check_first(sigmas_first: Tensor | None, sigmas: Tensor) -> None:
    """Raise ValueError unless these can be the levels of a first chunk before such `sigmas`."""
    if sigmas_first is None:
        return
    check_sigmas(sigmas_first, first=None, name="sigmas_first")
    if sigmas_first[0] != sigmas[0]:
        raise ValueError(
            f"sigmas_first begin at {sigmas_first[0]:.4g}, but later chunks at "
            f"{sigmas[0]:.4g}: begin both at the same level."
        )


def first_level(model_sampling: torch.nn.Module) -> float:
    """The noise level of pure noise."""
    return float(torch.as_tensor(cast(Tensor, model_sampling.sigma_max)))


def _shown(levels: list[float]) -> str:
    """Noise levels as a person reads them: of many, the first and the last."""
    shown = [str(round(level, 4)) for level in levels]
    if len(shown) > MOST_SHOWN:
        shown[MOST_SHOWN - 2 : -1] = ["..."]
    return f"[{', '.join(shown)}]"
