"""The language of the small world as text embeddings of Wan 2.1's width, without any weights.

Every word stands for itself and the three words before it: "red circle" and "blue circle" differ at
the circle, and a second thing differs from a first one by its "and". Words that the world does not
know are left out.
"""

import re
from itertools import chain

import torch
from torch import Tensor

COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
SHAPES = ("circle", "square", "triangle")
GROUNDS = ("grey", "green", "blue", "brown", "black")
PATTERNS = ("plain", "striped", "dotted", "checkered")
MOTIONS = ("bouncing", "circling")
SPEEDS = ("slow", "fast")
_NAMES = chain(COLOURS, SHAPES, GROUNDS, PATTERNS, MOTIONS, SPEEDS)
WORDS = tuple(dict.fromkeys(("", "a", "and", "over", "field", *_NAMES)))
TEXT_WIDTH = 4096
TOKENS = 16  # a text is filled up to a multiple of this, so that most have the same length
REACH = 4  # words that one token knows: itself and those before it
LOUDNESS = 32.0  # of a feature among 4096 numbers, nearly all of them zero


def tokens(text: str) -> list[int]:
    """Numbers of the known words of `text`, filled up with zeros; nothing is 16 zeros."""
    words = [word for word in re.findall("[a-z]+", text.lower()) if word in WORDS[1:]]
    numbers = [WORDS.index(word) for word in words]
    return numbers + [0] * (-len(numbers) % TOKENS or TOKENS * (not numbers))


def unknown_words(text: str) -> list[str]:
    """Words of `text` that `tokens` leaves out."""
    return [word for word in re.findall("[^\\W\\d_]+", text.lower()) if word not in WORDS]


def embed(numbers: list[int]) -> Tensor:
    """Embeddings `[tokens, 4096]` of what `tokens` gave."""
    features = torch.zeros(len(numbers), TEXT_WIDTH)
    for place, number in enumerate(numbers):
        if number:
            for back, known in enumerate(numbers[place::-1][:REACH]):
                features[place, back * len(WORDS) + known] = LOUDNESS
    return features
