"""A script as text, which the grammar reads as the same script."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from .grammar import parse
from .script import Cue, Script, ScriptError, Time
from .source import escaped

_START = Time(value=Fraction(0), unit="f")


def written(script: Script) -> str:
    """The text of cues that have a start and no end, a line each; first the words for all."""
    lines = [_line(cue) for cue in script.cues]
    if shared := script.cues[0].shared:
        meant = Cue(text=f"{shared} x", shared=shared, start=_START, line=2, column=1)
        lines.insert(0, "GLOBAL: " + _said(shared, "GLOBAL: {}\n[0f] x", meant))
    return "\n".join(lines)


def _line(cue: Cue) -> str:
    meant = Cue(text=cue.words, start=_START, line=1, column=1)
    head = f"Scene {cue.scene}: " if cue.scene else ""
    return f"[{' '.join(_mark(cue))}] {head}{_said(cue.words, '[0f] {}', meant)}"


def _mark(cue: Cue) -> Iterator[str]:
    assert cue.start and not cue.end, "a cue with a start and no end"
    yield _written(cue.start)
    if cue.transition:
        yield cue.transition
    if cue.blend:
        yield _written(cue.blend)
    if cue.moment:
        yield f"@{_written(cue.moment)}"


def _said(words: str, place: str, meant: Cue) -> str:
    """Words as they are where in their place they mean what is meant, else with backslashes."""
    try:
        means = parse(place.format(words)).cues
    except ScriptError:
        means = ()
    return words if means == (meant,) else escaped(words)


def _written(time: Time) -> str:
    """A time, exactly; long ones as minutes and seconds."""
    if time.unit == "f":
        return f"{time.value}f"
    minutes, seconds = divmod(time.value, 60)
    if not minutes:
        return f"{_decimal(seconds)}s"
    return f"{minutes}:{'0' if seconds < 10 else ''}{_decimal(seconds)}"


def _decimal(value: Fraction) -> str:
    return format(Decimal(value.numerator) / Decimal(value.denominator), "f")
