"""Which scene each cue shows, and how it begins. Depends on no video, so it is told early."""

from collections.abc import Sequence
from unicodedata import normalize

from .script import Cue, Transition, mistake
from .shots import Begin


def scenes_of(cues: Sequence[Cue], transition: Transition = "keep") -> list[tuple[int, Begin]]:
    """The number of each cue's scene, by first appearance, and how the cue begins.

    Args:
        transition: how a cue begins that does not say it.

    Raises:
        ScriptError: at a cue that begins as it cannot.
    """
    found: list[tuple[int, Begin]] = []
    names: dict[str, int] = {}
    running, scenes = 0, 0
    for cue in cues:
        name = normalize("NFC", cue.scene).casefold() if cue.scene else None
        known = names.get(name) if name else None
        begin: Begin = cue.transition or transition
        if not found:
            _check_first(cue)
            begin, scenes = "keep", 1
        elif name and known == running:
            if cue.transition == "cut":
                raise mistake(
                    cue,
                    f"scene {cue.scene} goes on here, so there is no cut: remove it, or give the "
                    "new scene a name of its own.",
                )
            begin = "keep" if begin == "cut" else begin
        elif name or begin == "cut":
            _check_cut(cue)
            begin = "cut" if known is None else "return"
            running = scenes if known is None else known
            scenes += known is None
        if name:
            names.setdefault(name, running)
        found.append((running, begin))
    return found


def _check_first(cue: Cue) -> None:
    if cue.transition in ("recache", "blend"):
        raise mistake(
            cue, f"nothing is before the first shot, so it has no {cue.transition}: remove it."
        )
    if cue.transition == "cut" and cue.start is None:
        raise mistake(
            cue,
            "nothing is before the first shot, so there is no cut to it: write [cut] behind the "
            "words of the shot that it leads to.",
        )


def _check_cut(cue: Cue) -> None:
    if cue.transition not in (None, "cut"):
        raise mistake(
            cue,
            f"scene {cue.scene} begins with a cut, not with {cue.transition}: remove one of the "
            "two.",
        )
