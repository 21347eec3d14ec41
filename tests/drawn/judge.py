"""What came of a case: the expected video, a sentence of ours, or one of three faults."""

import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tiny
import torch
from conftest import ROOT
from torch import Tensor

EQUAL, REFUSED, STOPPED = "as expected", "refused before sampling", "stopped at a step"
CRASH, JARGON, SILENT = "crash", "jargon", "silent difference"
FAULTS = (CRASH, JARGON, SILENT)

OURS = tuple(str(ROOT / folder) for folder in ("relax_memory", "nodes"))
INPUTS = re.compile(
    r"\b(positive|negative|middle|other|empty_negative_prompt|conditioning|model|prefix|noise|"
    r"latent_image|sigmas|sigmas_first|sampler|samples|width|height|length|cfg|batch_size|node|"
    r"filename_prefix|model_name|lora_name|checkpoint_key)\b"
)
TALK_OF_TENSORS = re.compile(
    r"\b[Tt]ensors?\b|size mismatch|\bdim(ension)?s?\b|broadcast|\bdtype\b|torch\.|NoneType|"
    r"object has no|argument|subscript|out of range|must match|\b[Ee]xpected|invalid shape|"
    r"KeyError|traceback|0x|\bself\b(?![-_])|<[a-z_]+ object|codec can't|Errno"
)


@dataclass(frozen=True)
class Verdict:
    """What came of a case and, where it was not a video, its words."""

    kind: str
    words: str = ""

    @property
    def is_fault(self) -> bool:
        return self.kind in FAULTS


def judge(make: Callable[[], str], says: Callable[[], str] = lambda: "") -> Verdict:
    """Run a case; `make` returns what is wrong with its result, "" for nothing."""
    with counted() as passes:
        try:
            wrong = make()
        except Exception as error:  # any kind is a result here
            return _of_error(error, passes())
    return Verdict(SILENT, wrong) if wrong else Verdict(EQUAL, says())


def _of_error(error: Exception, passes: int) -> Verdict:
    words = str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    if type(error) not in (ValueError, RuntimeError) or not last.filename.startswith(OURS):
        return Verdict(CRASH, f"{type(error).__name__} in {Path(last.filename).name}: {words}")
    if not is_a_sentence(words) or (passes and type(error) is ValueError):
        return Verdict(JARGON, f"after {passes} passes: {words}")
    return Verdict(STOPPED if passes else REFUSED, words)


def is_a_sentence(words: str) -> bool:
    """Names an input, says what to do after a colon or a full stop, and talks of no tensors."""
    advises = re.search(r"[:.] \S+.*\.$", words, re.DOTALL) is not None
    return bool(INPUTS.search(words)) and advises and not TALK_OF_TENSORS.search(words)


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """How often the small model was asked, as long as this lasts."""
    passes = [0]

    def count(*_: object) -> None:
        passes[0] += 1

    hook = tiny.model("wan").model.diffusion_model.patch_embedding.register_forward_pre_hook(count)
    try:
        yield lambda: passes[0]
    finally:
        hook.remove()


@contextmanager
def listening() -> Iterator[list[str]]:
    """What the pack writes into the log."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(handler)


def differs(video: Tensor, expected: Tensor, most: float = 0.0) -> str:
    """How a video differs from the expected one by more than `most`, "" where it does not."""
    if video.shape != expected.shape:
        return f"shape {list(video.shape)} instead of {list(expected.shape)}"
    off = (video - expected).abs().max()
    return "" if torch.equal(video, expected) or off <= most else f"off by {off:.3g}"
