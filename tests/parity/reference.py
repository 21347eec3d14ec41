"""Section 2 of `docs/design.md` written out once more: literal, slow, in float64, for one sample.

Everything is stored un-rotated and rotated in every call, at absolute positions in the paper's
words; the reservoir is a list from which frames are removed; nothing is planned ahead. It shares no
code with the pack, and a batch is simply several samples.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy
import torch
import torch.nn.functional as F
from parity.reference_model import Transformer

MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)  # fmt: skip
STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
       3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Relaxed:
    """Settings of the paper's memory; sizes count latent frames."""

    sink: int = 2
    history: int = 1
    tail: int = 1
    candidates: int = 4
    redundancy_weight: float = 2.0
    reservoir: int = 120
    rope: str = "hybrid"


class OtherMemory(Protocol):
    """Inputs of another memory's node, and its rule; in a file of `memories`."""

    rope: str
    node: str  # its id

    def choose(self, cached: list[int]) -> "Choice":
        """The frames that the next chunk reads of those that there are, the oldest first."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Frames a chunk reads, by their number in the video, and how its history was chosen."""

    sink: tuple[int, ...]
    history: tuple[int, ...]
    tail: tuple[int, ...]
    candidates: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()


def to_model(latents: torch.Tensor) -> torch.Tensor:
    """From the latents of a Wan 2.1 VAE `[16, ...]` to the space the model works in."""
    mean, std = (torch.tensor(x, dtype=torch.float64).view(16, 1, 1, 1) for x in (MEAN, STD))
    return (latents.double() - mean) / std


def from_model(latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_model`."""
    mean, std = (torch.tensor(x, dtype=torch.float64).view(16, 1, 1, 1) for x in (MEAN, STD))
    return latents * std + mean


def noise(seed: int, sample: int, first_frame: int, draw: int, shape) -> torch.Tensor:
    """The noise of section 5 of the design for a chunk; draw 0 starts it, draw i follows step i."""
    sequence = numpy.random.SeedSequence([seed, sample, first_frame, draw])
    state = int(sequence.generate_state(1, numpy.uint64)[0] >> 1)
    return torch.randn(shape, generator=torch.Generator().manual_seed(state)).double()


def candidate_places(middle: int, wanted: int) -> list[int]:
    """Places in a middle of `middle` frames from which history is chosen."""
    first = middle // 2
    count = min(wanted, middle - first)
    if count == 1:
        return [first]
    spread = torch.linspace(first, middle - 1, count + 1, dtype=torch.float32)
    return spread.trunc().to(torch.int64).unique().tolist()[:-1]


def prototype(frames: list) -> torch.Tensor:
    """Mean un-rotated key of layer 0 over the frames' tokens and heads, at length 1."""
    keys = torch.cat([frame[0][0] for frame in frames])
    return F.normalize(keys.mean(dim=(0, 1)), dim=0)


def relaxation_score(frame, sink: list, tail: list, weight: float) -> float:
    """r(h): likeness to the sink less `weight` times likeness to the tail."""
    like_sink = float(prototype([frame]) @ prototype(sink)) if sink else 0.0
    like_tail = float(prototype([frame]) @ prototype(tail)) if tail else 0.0
    return like_sink - weight * like_tail


class Memory:
    """What one sample remembers under one conditioning: its past frames, the oldest first."""

    def __init__(self, settings: Relaxed | OtherMemory):
        self.settings = settings
        self.cached = []  # frame numbers
        self.frames = {}  # frame number: keys and values of every layer

    def make_room(self, n: int) -> None:
        """Let the oldest frames that are not sinks leave, so that the chunk fits the reservoir."""
        if isinstance(self.settings, Relaxed):
            while len(self.cached) + n > self.settings.reservoir:
                del self.frames[self.cached.pop(self.settings.sink)]

    def choose(self) -> Choice:
        """The frames that the next chunk reads; among equal scores the older frame wins."""
        if not isinstance(self.settings, Relaxed):
            return self.settings.choose(self.cached)
        s, cached = self.settings, self.cached
        sink, rest = tuple(cached[: s.sink]), tuple(cached[s.sink :])
        middle = rest[: max(0, len(rest) - s.tail)]
        tail = rest[len(middle) :]
        if len(cached) <= s.sink + 1 + s.tail:
            return Choice(sink=sink, history=middle, tail=tail)
        candidates = tuple(middle[i] for i in candidate_places(len(middle), s.candidates))
        scores = tuple(
            relaxation_score(
                self.frames[candidate],
                [self.frames[i] for i in sink],
                [self.frames[i] for i in tail],
                s.redundancy_weight,
            )
            for candidate in candidates
        )
        ranked = sorted(zip(scores, candidates, strict=True), key=lambda pair: -pair[0])
        history = tuple(sorted(candidate for _, candidate in ranked[: s.history]))
        return Choice(sink=sink, history=history, tail=tail, candidates=candidates, scores=scores)

    def placed(self, choice: Choice, chunk: list[int]) -> list:
        """The frames to read with the time each stands at while `chunk` stands at its true one."""
        far, near = choice.sink + choice.history, choice.tail
        times = list(far)
        if self.settings.rope == "hybrid":
            start = (*near, *chunk)[0]
            times = list(range(start - len(far), start))
        return [(time, self.frames[i]) for time, i in zip([*times, *near], far + near, strict=True)]

    def commit(self, chunk: list[int], frames: list) -> None:
        self.cached += chunk
        self.frames.update(zip(chunk, frames, strict=True))


def chunks_of(given: int, total: int, n: int) -> list[list[int]]:
    """Frame numbers of every chunk: the given frames' remainder first, then whole chunks."""
    chunks, start = [], 0
    while start < total:
        size = given % n if start == 0 and given % n else n
        chunks.append(list(range(start, start + size)))
        start += size
    return chunks


def denoise(predict, draw, sigmas: list[float], cfg: float):
    """A chunk from noise: predict x0, noise it again to the next sigma, and so on to sigma 0.

    Also what the last of these passes gave for every text, frames included.
    """
    x = draw(0)
    for step, (sigma, following) in enumerate(itertools.pairwise(sigmas), start=1):
        predicted = predict(x, sigma)
        flows = [flow for flow, _ in predicted]
        flow = flows[0] if len(flows) == 1 else flows[1] + cfg * (flows[0] - flows[1])
        x0 = x - sigma * flow
        x = x0 if following == 0 else (1 - following) * x0 + following * draw(step)
    return x, predicted


def predict_each(model: Transformer, texts, chunk: list[int], placed, x: torch.Tensor, sigma):
    """Flow and frames of the chunk `x` for every text, each with its own memory."""
    return [
        model.forward(x, sigma, text, times=chunk, memory=past)
        for text, past in zip(texts, placed, strict=True)
    ]


def rollout(
    model: Transformer,
    settings: Relaxed | OtherMemory,
    texts: list[torch.Tensor],
    *,
    cfg: float,
    sigmas: list[float],
    sigmas_first: list[float] | None = None,
    clean_pass: bool = True,
    shape: tuple[int, int, int],
    n: int,
    seed: int,
    sample: int = 0,
    prefix: torch.Tensor | None = None,
):
    """One sample's video `[16, *shape]` in VAE latents, and each chunk's choice for every text.

    `texts` holds the positive and, for a `cfg` other than 1, the negative prompt; `shape` is
    (latent frames, latent height, latent width); `prefix` is `[16, P, height, width]`.
    `sigmas_first` are those of a chunk that has nothing before it. Without a clean pass the frames
    of a chunk's last denoising pass are remembered, but those of given chunks by a clean pass.
    """
    total, height, width = shape
    given = 0 if prefix is None else prefix.shape[1]
    memories = [Memory(settings) for _ in texts]
    chunks, choices = [], []
    for chunk in chunks_of(given, total, n):
        for memory in memories:
            memory.make_room(len(chunk))
        choices.append([memory.choose() for memory in memories])
        placed = [m.placed(c, chunk) for m, c in zip(memories, choices[-1], strict=True)]
        size = (16, len(chunk), height, width)
        predict = functools.partial(predict_each, model, texts, chunk, placed)
        if chunk[0] < given:
            x = to_model(prefix[:, chunk])
            passed = predict(x, 0.0)
        else:
            draw = functools.partial(noise, seed, sample, chunk[0], shape=size)
            levels = sigmas_first if chunk[0] == 0 and sigmas_first else sigmas
            x, passed = denoise(predict, draw, levels, cfg)
            if clean_pass:
                passed = predict(x, 0.0)
        for memory, (_, frames) in zip(memories, passed, strict=True):
            memory.commit(chunk, frames)
        chunks.append(x)
    return from_model(torch.cat(chunks, dim=1)[:, :total]), choices
