"""What each conditioning says in each chunk: its prompts, mixed where one goes over into another.

The host prepares all of them before sampling, under names of their own beside "positive" and
"negative"; a pass is made with those of its chunk in their place. Knows no grammar: which words are
said when is the storyboard's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import comfy.samplers
import torch
from torch import Tensor

from ...direction.beginnings import beginnings
from ...passes import Chunk
from ...storyboard import SCENES, Storyboard, Words

Conditioning = list[list]
Speak = Callable[[Chunk, bool], None]  # the words of a chunk, or those by which it is remembered


class Prompts:
    """All that is said in a film.

    Args:
        prompts: of each conditioning that has shots, by its name.
        texts: the words of those of the positive, for people.
    """

    def __init__(
        self,
        storyboard: Storyboard,
        prompts: Mapping[str, Sequence[Conditioning]],
        texts: Sequence[str] = (),
    ) -> None:
        self._storyboard = storyboard
        self._told = beginnings(texts)
        said: dict[tuple[str, Words], None] = {}
        for chunk in storyboard if prompts else ():
            for clean in (False, True):
                said.update(dict.fromkeys(storyboard.words(chunk, clean=clean).items()))
        self._names = {words: f"{words[0]}, words {i}" for i, words in enumerate(said)}
        self.entries = {
            shown: _mixed(prompts[name], words) for (name, words), shown in self._names.items()
        }

    def told(self, chunk: Chunk) -> str:
        """The first words of the shot of a chunk; none where nobody knows them."""
        return self._told[self._storyboard.words(chunk)[SCENES].prompt] if self._told else ""

    def speaker(self, guider: comfy.samplers.CFGGuider) -> Speak:
        """What makes a guider that has been prepared say them."""
        prepared = guider.conds
        usual = {name: conds for name, conds in prepared.items() if name not in self.entries}

        def speak(chunk: Chunk, clean: bool) -> None:
            words = self._storyboard.words(chunk, clean=clean)
            now = {name: prepared[self._names[name, said]] for name, said in words.items()}
            if now:
                guider.conds = usual | now

        return speak


class Film(NamedTuple):
    """What a run makes, and what is said in it."""

    storyboard: Storyboard
    prompts: Prompts


def _mixed(prompts: Sequence[Conditioning], words: Words) -> Conditioning:
    """The entries of a prompt, or each of their embeddings on the way from that of another."""
    if words.before is None:
        return prompts[words.prompt]
    return [
        [_between(old[0], new[0], words.share), *new[1:]]
        for old, new in zip(prompts[words.before], prompts[words.prompt], strict=True)
    ]


def _between(old: Tensor, new: Tensor, share: float) -> Tensor:
    """Embeddings `[B, tokens, D]` linearly between two; the shorter is filled up with zeros, as the
    model's own tokens are.
    """
    tokens = max(old.shape[1], new.shape[1])
    old, new = (torch.nn.functional.pad(t, (0, 0, 0, tokens - t.shape[1])) for t in (old, new))
    return torch.lerp(old.to(new), new, share)
