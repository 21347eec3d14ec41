"""How long a chunk takes: the median of the saved runs of this model at this size."""

import statistics
from collections.abc import Iterator, Mapping

from comfy.model_patcher import ModelPatcher

from ...saved.archive import saved_rollouts
from ...saved.rollout import Description, SavedRollout
from .autosave import archive_folder
from .fingerprint import model_fingerprints

NEWEST_RUNS, NEWEST_CHUNKS = 3, 20


def chunk_seconds(model: ModelPatcher, asked: Mapping[str, object]) -> float | None:
    """Seconds of a chunk that is not the first; None where no such run is saved.

    Args:
        model: with memory.
        asked: width and height, and the settings of a sampler that decide what a chunk costs.
    """
    alike = (run for run, made in _described() if _is_alike(made, asked))
    weights: str | None = None
    found: list[float] = []
    runs = 0
    for run in alike:
        weights = weights or model_fingerprints(model)["model"]  # read once, and only if needed
        described = run.description
        if described is None or described.made_from.get("model") != weights:
            continue
        found += _seconds(run)
        runs += 1
        if runs == NEWEST_RUNS:
            break
    return statistics.median(found) if found else None


def _described() -> Iterator[tuple[SavedRollout, Description]]:
    for run in saved_rollouts(archive_folder()):
        if (description := run.description) is not None:
            yield run, description


def _is_alike(made: Description, asked: Mapping[str, object]) -> bool:
    held = {"width": made.width, "height": made.height} | made.settings
    return all(held.get(name) == value for name, value in asked.items())


def _seconds(run: SavedRollout) -> list[float]:
    """Of chunks that were made; the first has less to do and waits for the model."""
    try:
        traces = [chunk.trace for chunk in run.chunks()]
    except ValueError:  # a damaged run tells nothing
        return []
    return [trace.seconds for trace in traces[1:] if not trace.given][-NEWEST_CHUNKS:]
