"""The loop that both training scripts share: schedule, checkpoints, resume, log and progress.

A run is a module, a loss for a step number, and a number of steps. What a step sees depends on the
seed and its number only, so a run that was stopped goes on as if it had not been.
"""

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = ROOT / "data/training"
LOGS = ROOT / "lab/logs"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MINUTES_BETWEEN_CHECKPOINTS = 5
STEPS_BETWEEN_LINES = 50
CLIP_NORM, DECAY = 1.0, 0.01


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A warm-up and cosines down to a hundredth.

    The matrices of transformer blocks go by Muon at `block_rate`, all else by Adam. The weights
    that count are an average over the newest steps.
    """

    cycles: tuple[int, ...]  # steps of every cosine
    heights: tuple[float, ...]  # that they begin at, as shares of the learning rates
    learning_rate: float
    block_rate: float = 0.0
    warm_up_steps: int = 100
    average_steps: int = 500  # over about how many the weights are averaged; at most a tenth of all

    @property
    def steps(self) -> int:
        return sum(self.cycles)

    def factor(self, step: int) -> float:
        """Of the learning rates at a step."""
        cycle, step = part_of(step, self.cycles)
        warm = min(1.0, (step + 1) / self.warm_up_steps)
        done = step / self.cycles[cycle]
        return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2) * self.heights[cycle]

    def keep(self, step: int) -> float:
        """How much of the average a step leaves as it was."""
        return 1 - 1 / min(step + 1, self.average_steps)


def part_of(step: int, lengths: Sequence[int]) -> tuple[int, int]:
    """Which of consecutive parts of a run a step is in, and its number there.

    Raises:
        IndexError: the parts are too short for it.
    """
    part = 0
    while step >= lengths[part]:
        step -= lengths[part]
        part += 1
    return part, step


def train(
    module: nn.Module,
    loss_of: Callable[[int], tuple[Tensor, dict[str, float]]],
    *,
    name: str,
    schedule: Schedule,
    log: Path,
    stop_after_minutes: float = math.inf,
) -> dict[str, Tensor]:
    """Train `module` in place, from its last checkpoint if it has one; return averaged weights.

    Args:
        loss_of: the loss of a step, and figures to write down beside it.
        name: of the checkpoint in `data/training/`.
        log: lines of JSON, one every `STEPS_BETWEEN_LINES`; lines of undone steps are removed.
        stop_after_minutes: write a checkpoint and leave the program then; a later call goes on.
    """
    optimizers = _optimizers(module, schedule)
    average = {key: value.clone() for key, value in module.state_dict().items()}
    checkpoint = CHECKPOINTS / f"{name}.pt"
    step = _load(checkpoint, module, optimizers, average)
    lines = [json.dumps({"device": _device(), **asdict(schedule)}), *_lines(log, step)]
    began = saved = time.monotonic()
    seen = defaultdict(list)
    while step < schedule.steps:
        loss, figures = loss_of(step)
        module.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = schedule.factor(step) * optimizer.defaults["lr"]
            optimizer.step()
        for key, value in module.state_dict().items():
            average[key].lerp_(value, 1 - schedule.keep(step))
        step += 1
        for key, value in {"loss": loss.detach(), **figures}.items():
            seen[key].append(float(value))
        if step % STEPS_BETWEEN_LINES == 0:
            figures = {key: round(fmean(values), 6) for key, values in seen.items()}
            lines.append(json.dumps({"step": step, **figures}))
            print(f"{lines[-1]} after {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
            seen.clear()
        out_of_time = time.monotonic() - began > 60 * stop_after_minutes
        if out_of_time or time.monotonic() - saved > 60 * MINUTES_BETWEEN_CHECKPOINTS:
            saved = time.monotonic()
            _save(checkpoint, module, optimizers, average, step)
            log.write_text("\n".join(lines) + "\n")
        if out_of_time:
            sys.exit(f"Stopped after {step} of {schedule.steps} steps; the next call goes on.")
    _save(checkpoint, module, optimizers, average, step)
    log.write_text("\n".join(lines) + "\n")
    return average


def _optimizers(module: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    matrices, others = [], []
    for name, weight in module.named_parameters():
        of_a_block = name.startswith("blocks.") and weight.ndim == 2
        (matrices if of_a_block else others).append(weight)
    betas = (0.9, 0.98)
    adam = torch.optim.AdamW(others, lr=schedule.learning_rate, betas=betas, weight_decay=DECAY)
    if not matrices:
        return [adam]
    muon = torch.optim.Muon(
        matrices, lr=schedule.block_rate, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"
    )
    return [adam, muon]


def _save(path: Path, module: nn.Module, optimizers, average: dict[str, Tensor], step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    state = {"module": module.state_dict(), "average": average, "step": step}
    torch.save({**state, "optimizers": [each.state_dict() for each in optimizers]}, part)
    part.replace(path)


def _load(path: Path, module: nn.Module, optimizers, average: dict[str, Tensor]) -> int:
    """The number of steps done, with everything as it was after them."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=DEVICE, weights_only=True)
    module.load_state_dict(state["module"])
    for optimizer, known in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(known)
    average.update(state["average"])
    return state["step"]


def _lines(log: Path, step: int) -> list[str]:
    """What the log says of the steps done."""
    if step == 0:
        return []
    lines = log.read_text().splitlines()[1:]
    return [line for line in lines if json.loads(line)["step"] <= step]


def _device() -> str:
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"


def initialise(module: nn.Module, seed: int = 0) -> None:
    """Draw every weight anew: the host's layers come without any."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.state_dict().items():
        if name.endswith(("gamma", "norm_q.weight", "norm_k.weight", "norm3.weight")):
            weight.fill_(1.0)
        elif weight.ndim == 1:
            weight.zero_()
        else:
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(drawn * weight[0].numel() ** -0.5)
