"""Whose fault it is when a pass fails: functions of other nodes are named in a sentence.

The host calls what other nodes put into a model, and some of it is written for other models. What
it raises says nothing to a film-maker, so the sentence names it; the log shows what was raised.
What we raise ourselves, interrupts and a full card pass through, and so does all else where no
other node has put anything into the model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, TracebackType

import comfy.model_management

from ..model.suspects import name_of

OURS = __name__.removesuffix(".host.sampling.blame")
MISTAKES = (
    *(TypeError, AttributeError, ValueError, LookupError, AssertionError, ArithmeticError),
    RuntimeError,
)


@contextmanager
def blaming(hooks: Callable[[], list[Callable]]) -> Iterator[None]:
    """Raise RuntimeError in the place of what a pass raises because of one of these functions."""
    try:
        yield
    except MISTAKES as error:
        raised, module = _raised_in(error.__traceback__)
        if _is_the_card(error) or module.startswith(OURS):
            raise
        found = hooks()
        guilty = [hook for hook in found if _code(hook) in raised]
        unclear = isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError)
        names = ", ".join(dict.fromkeys(map(name_of, guilty or ([] if unclear else found))))
        if not names:
            raise
        raise RuntimeError(
            f"model has {names}, which {'fails' if guilty else 'may be why it fails'} with a Wan "
            f"2.1 model ({type(error).__name__}; the log has more): remove the node that adds it."
        ) from error


def _is_the_card(error: Exception) -> bool:
    return comfy.model_management.is_oom(error) or "CUDA" in str(error)


def _raised_in(traceback: TracebackType | None) -> tuple[set[CodeType], str]:
    """The functions that an error came through, and the module of the last.

    No frames, which would hold each other and all that the run has on the card.
    """
    codes, module = set(), ""
    while traceback is not None:
        frame = traceback.tb_frame
        codes.add(frame.f_code)
        module = frame.f_globals["__name__"]
        traceback = traceback.tb_next
    return codes, module


def _code(hook: Callable) -> CodeType | None:
    hook = getattr(hook, "func", hook)  # a partial
    function = hook if hasattr(hook, "__code__") else type(hook).__call__
    return getattr(function, "__code__", None)
