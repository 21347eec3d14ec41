"""A CONDITIONING that carries a script: its first prompt, and in that the words of every shot.

Nodes that know nothing of it see one prompt, and samplers the first shot. What a node has done to
that first prompt alone would be missing in later shots, so it is refused by name.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from typing import Any

import nodes
import torch
from comfy.sd import CLIP
from torch import Tensor

from ..direction.beginnings import beginning
from ..direction.grammar import parse
from ..direction.scenes import scenes_of
from ..direction.script import (
    TRANSITIONS,
    Cue,
    Script,
    ScriptError,
    Time,
    Transition,
    check_order,
)
from .gates.conditioning import START_IMAGE

KEY = "relax_forcing_direction"
SOURCE = "relax_forcing_source"  # the node that wrote the words, see `steering`
OURS = (KEY, SOURCE)
OTHERS = {*OURS, *START_IMAGE}  # the prefix
OTHERS |= {"cross_attn", "model_conds", "uuid", "prompt_type"}  # what the host's guiders add
NOTHING = -1.0  # of seconds to remember
MOST_TOLD = 5  # names of scenes in one line
_ZERO = Time(value=Fraction(0), unit="s")


@dataclass(frozen=True, kw_only=True)
class Directed:
    """A script with the conditioning of each of its cues.

    `transition` and `blend_seconds` are those of cues that do not say theirs.
    """

    script: Script
    prompts: tuple[list, ...]
    transition: Transition = "keep"
    blend_seconds: float = 1.0


def read_text(text: str, transition: Transition) -> Script:
    """The script of the input `text`.

    Args:
        transition: how a shot begins that does not say it.

    Raises:
        ValueError: a mistake, with line and column.
    """
    try:
        return parse(text, transition)
    except ScriptError as error:
        raise ValueError(f"text, {error}") from None


def in_words(script: Script, transition: Transition) -> str:
    """How a text was understood, in a line."""
    shots = len(script.cues)
    names = dict.fromkeys(beginning(cue.scene) for cue in script.cues if cue.scene)
    if shots == 1 and not names:
        return "One prompt for the whole video"
    scenes = len({scene for scene, _ in scenes_of(script.cues, transition)})
    told = f"{shots} shot{'s' * (shots > 1)}"
    told += f" in {scenes} scene{'s' * (scenes > 1)}" if scenes > 1 or names else ""
    more = ", ..." * (len(names) > MOST_TOLD)
    return f"{told}: {', '.join([*names][:MOST_TOLD])}{more}" if names else told


def encoded(clip: CLIP, text: str, *, transition: Transition, blend_seconds: float) -> list:
    """The CONDITIONING of a text; every prompt is encoded once, as CLIP Text Encode does it.

    A single prompt is what that node would give.

    Raises:
        ValueError: a mistake in the text, or in what another node gives.
    """
    _check_how(transition, blend_seconds)
    script = read_text(text, transition)
    texts = dict.fromkeys(cue.text for cue in script.cues)
    prompts = {words: encode(clip, words) for words in texts}
    return said(script, prompts, transition=transition, blend_seconds=blend_seconds)


def encode(clip: CLIP, words: str) -> list:
    """One prompt, as CLIP Text Encode gives it."""
    return nodes.CLIPTextEncode().encode(clip, words)[0]


def said(
    script: Script,
    prompts: Mapping[str, list],
    *,
    transition: Transition,
    blend_seconds: float,
) -> list:
    """The CONDITIONING of a script whose prompts are known by their words."""
    if len(script.cues) == 1 and script.cues[0].scene is None:
        return prompts[script.cues[0].text]
    return with_direction(
        Directed(
            script=script,
            prompts=tuple(prompts[cue.text] for cue in script.cues),
            transition=transition,
            blend_seconds=blend_seconds,
        )
    )


def with_shot(
    conditioning: list,
    *,
    start_seconds: float,
    transition: Transition,
    blend_seconds: float,
    scene: str | None = "",
    remember_seconds: float | None = NOTHING,
    before: list | None = None,
) -> list:
    """The CONDITIONING of the shots in `before` and one more.

    Raises:
        ValueError: the shot cannot follow on those, or is none.
    """
    _check_how(transition, blend_seconds)
    for name, given in (("conditioning", conditioning), ("before", before)):
        if given == [] or (given is None and name == "conditioning"):
            raise ValueError(f"{name} is empty: connect a prompt.")
    if any(KEY in options for _, options, *_ in conditioning):
        raise ValueError(
            "conditioning carries shots already: connect it to before, and the prompt of the new "
            "shot to conditioning."
        )
    if before is None and start_seconds:
        raise ValueError(
            f"start_seconds is {start_seconds:g}, but no shot comes before: set it to 0, or "
            "connect the earlier shots to before."
        )
    earlier = _earlier(before)
    conditioning = _plain(conditioning)
    scene = " ".join((scene or "").split())
    moment = NOTHING if remember_seconds is None else remember_seconds
    cue = Cue(
        text=_words(earlier, conditioning),
        start=_seconds("start_seconds", start_seconds),
        transition=None if scene and transition == "keep" else transition,
        blend=_seconds("blend_seconds", blend_seconds) if transition == "blend" else None,
        scene=scene or None,
        moment=None if moment < 0 else _seconds("remember_seconds", moment),
    )
    *_, (_, begin) = scenes_of((*earlier.script.cues, cue), earlier.transition)
    if begin in ("recache", "blend"):
        cue = replace(cue, transition=transition)  # the scene goes on: not as others that say none
    cues = (*earlier.script.cues, cue)
    check_order(cues)
    prompts = (*earlier.prompts, conditioning)
    return with_direction(replace(earlier, script=Script(cues=cues), prompts=prompts))


def _earlier(before: list | None) -> Directed:
    """The shots before a new one, with times."""
    if before is None:
        return Directed(script=Script(cues=()), prompts=())
    directed = direction_of("before", before)
    if directed is None:
        alone = Cue(text="shot 1", start=_ZERO)
        return Directed(script=Script(cues=(alone,)), prompts=(_plain(before),))
    cues = directed.script.cues
    if len(cues) > 1 and cues[0].start is None:
        raise ValueError(
            "before has shots without a start, so it cannot be told which of them a new one ends: "
            "write them as [0s] a cat, [5s] a dog, each in a line of its own."
        )
    first = replace(cues[0], start=_ZERO)
    return replace(directed, script=Script(cues=(first, *cues[1:])))


def _seconds(name: str, value: float) -> Time:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, but a number of seconds is needed.")
    return Time(value=Fraction(str(float(value))), unit="s")


def checked_transition(transition: str) -> Transition:
    """The transition; raises ValueError for one that there is not."""
    for known in TRANSITIONS:
        if transition == known:
            return known
    raise ValueError(f'transition is "{transition}": use {", ".join(TRANSITIONS)}.')


def _check_how(transition: str, blend_seconds: float) -> None:
    """Refuse what another node may give: the host checks what is typed only."""
    checked_transition(transition)
    if not 0 < blend_seconds < math.inf:
        raise ValueError(f"blend_seconds is {blend_seconds:g}: use 0.1 or more, or keep.")


def _words(earlier: Directed, conditioning: list) -> str:
    """What stands for the words of a conditioning: the same for the same one."""
    taken = [cue.text for cue in earlier.script.cues]
    for text, prompt in zip(taken, earlier.prompts, strict=True):
        if _same(prompt, conditioning):
            return text
    return next(name for n in count(len(taken) + 1) if (name := f"shot {n}") not in taken)


def with_direction(directed: Directed) -> list:
    """The CONDITIONING that carries it: the first prompt, copied."""
    copies = [
        [embedding, dict(options), *rest] for embedding, options, *rest in directed.prompts[0]
    ]
    copies[0][1][KEY] = directed
    return copies


def without_direction(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an entry, less its script and where that comes from."""
    return {key: value for key, value in options.items() if key not in OURS}


def _plain(conditioning: list) -> list:
    """A conditioning that does not tell where its words come from, as it is one of several now."""
    if not any(SOURCE in options for _, options, *_ in conditioning):
        return conditioning
    return [[text, without_direction(own), *rest] for text, own, *rest in conditioning]


def direction_of(name: str, conditioning: list) -> Directed | None:
    """What a conditioning carries, as it came into the sampling node; None for a plain one.

    Args:
        name: the input that it came in by.

    Raises:
        ValueError: the conditioning is no longer the first prompt, or its shots differ in their
            number of entries.
    """
    found = [options[KEY] for _, options, *_ in conditioning if KEY in options]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(
            f"{name} conditioning carries two prompt schedules: connect one, and join prompts "
            "before Relax Forcing Shot."
        )
    directed: Directed = found[0]
    changed = ", ".join(changes(conditioning, directed.prompts[0]))
    if changed:
        raise ValueError(
            f"{name} conditioning was changed after its shots were set ({changed}), which would "
            "hold for the first shot alone: connect the node that does it to each prompt, before "
            "Relax Forcing Shot."
        )
    for cue, prompt in zip(directed.script.cues, directed.prompts, strict=True):
        if len(prompt) != len(conditioning):
            raise ValueError(
                f"{name} conditioning has {len(conditioning)} entries in its first shot but "
                f"{len(prompt)} in that at {cue.where}, and each entry has a memory of its own: "
                "give all shots as many, as Conditioning Combine does."
            )
    return directed


def is_zeroed(conditioning: list) -> bool:
    """Whether the words of its shots are taken out, as Conditioning Zero Out does it to all."""
    found = [options[KEY] for _, options, *_ in conditioning if KEY in options]
    return bool(found) and _says(found[0].prompts[0]) and not _says(conditioning)


def _says(conditioning: list) -> bool:
    return any(embedding is None or bool(embedding.any()) for embedding, *_ in conditioning)


def changes(conditioning: list, first: list) -> Iterator[str]:
    """What of a conditioning is not as in the first prompt."""
    if len(conditioning) != len(first):
        yield f"{len(conditioning)} entries for {len(first)}"
        return
    for (embedding, options, *_), (own, own_options, *_) in zip(conditioning, first, strict=True):
        if not _same(embedding, own):
            yield "its prompt"
        for key in sorted({*options, *own_options} - OTHERS):
            if key not in own_options or not _same(options.get(key), own_options[key]):
                yield key


def differences(one: list, other: list) -> list[str]:
    """Options by which prompts of as many entries differ."""
    pairs = zip(one, other, strict=True)
    return sorted(
        {
            key
            for (_, first, *_), (_, second, *_) in pairs
            for key in {*first, *second} - OTHERS
            if not _same(first.get(key), second.get(key))
        }
    )


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401  (whatever nodes put into options)
    """Whether two values are one, or equal ones of a kind that can be compared."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = (one.dtype, one.device) == (other.dtype, other.device)
        return alike and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return isinstance(one, str | int | float) and one == other
