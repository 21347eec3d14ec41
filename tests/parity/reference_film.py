"""Section 8 of `docs/design.md` written out once more: shots, scenes and moments, in float64.

Literal and slow: before every chunk all that it may read is remembered anew from the beginning of
its scene, each chunk under the words that count for it by then. One sample at a time.
"""

import functools
from dataclasses import dataclass

import torch
from parity import reference
from parity.reference import Choice, Memory, OtherMemory, Relaxed
from parity.reference_model import Transformer


@dataclass(frozen=True, kw_only=True)
class Shot:
    """From this chunk of the film on; `moment` is a latent frame of the film."""

    first_chunk: int
    text: int
    scene: int = 0
    transition: str = "keep"
    blend_seconds: float = 1.0
    moment: int | None = None


class FilmMemory(Memory):
    """The memory of a scene, which may have a moment of the film beside it."""

    def __init__(self, settings: Relaxed | OtherMemory):
        super().__init__(settings)
        self.moment = None  # its number in the scene or None, and what is remembered of it

    def choose(self) -> Choice:
        choice = super().choose()
        own = self.moment and self.moment[0]
        if own is None:
            return choice
        if own in choice.sink + choice.tail:
            self.moment = None
            return choice
        return self.without(choice, own)

    def without(self, choice: Choice, own: int) -> Choice:
        """The choice among all candidates but one."""
        if not choice.candidates:
            history = tuple(frame for frame in choice.history if frame != own)
            return Choice(sink=choice.sink, history=history, tail=choice.tail)
        scored = [
            (score, frame)
            for score, frame in zip(choice.scores, choice.candidates, strict=True)
            if frame != own
        ]
        best = sorted(scored, key=lambda pair: -pair[0])[: self.settings.history]
        return Choice(
            sink=choice.sink,
            history=tuple(sorted(frame for _, frame in best)),
            tail=choice.tail,
            candidates=tuple(frame for _, frame in scored),
            scores=tuple(score for score, _ in scored),
        )

    def placed(self, choice: Choice, chunk: list[int]) -> list:
        """With the moment before everything, a time earlier than all."""
        placed = super().placed(choice, chunk)
        if self.moment is None:
            return placed
        return [(min([time for time, _ in placed], default=chunk[0]) - 1, self.moment[1]), *placed]


def video_frame(latent_frame: int) -> int:
    """The first picture of a latent frame."""
    return 4 * latent_frame - 3 if latent_frame else 0


def share(shot: Shot, chunks: list[list[int]], index: int) -> float:
    """How much of a shot's words a chunk has: 0 to 1 by the middle of its pictures."""
    begin = video_frame(chunks[shot.first_chunk][0])
    middle = (video_frame(chunks[index][0]) + video_frame(chunks[index][-1] + 1)) / 2
    return min(max((middle - begin) / 16 / shot.blend_seconds, 0.0), 1.0)


def shot_of(shots: list[Shot], index: int) -> Shot:
    return [shot for shot in shots if shot.first_chunk <= index][-1]


def words(shots: list[Shot], texts: list, chunks: list[list[int]], index: int) -> torch.Tensor:
    """W: what a chunk is denoised by."""
    shot = shot_of(shots, index)
    new = texts[shot.text].double()
    if shot.transition != "blend":
        return new
    old = texts[shot_of(shots, shot.first_chunk - 1).text].double()
    weight = share(shot, chunks, index)
    tokens = max(len(old), len(new))
    old, new = (torch.cat([t, t.new_zeros(tokens - len(t), t.shape[1])]) for t in (old, new))
    return texts[shot.text].double() if weight == 1 else (1 - weight) * old + weight * new


@dataclass(frozen=True, kw_only=True)
class Film:
    """What a film is made of; `texts` and `shots` are those of one conditioning.

    `scenes` are the shots that make scenes and moments. `newest` chunks are remembered under the
    words of a shot that begins with "recache"; with infinitely many it is the literal recache.
    """

    model: Transformer
    settings: Relaxed | OtherMemory
    chunks: list[list[int]]
    latents: list[torch.Tensor]
    scenes: list[Shot]
    shots: list[Shot]
    texts: list[torch.Tensor]
    newest: int

    def words(self, index: int) -> torch.Tensor:
        return words(self.shots, self.texts, self.chunks, index)

    def own(self, index: int) -> list[int]:
        """The chunks of the scene of a chunk, in the whole film."""
        scene = shot_of(self.scenes, index).scene
        return [i for i in range(len(self.chunks)) if shot_of(self.scenes, i).scene == scene]

    def remembered_by(self, own: list[int], count: int) -> list[torch.Tensor]:
        """M: words for the first `count` chunks of a scene, as the one after them begins."""
        said = [self.words(i) for i in own[:count]]
        for place, index in enumerate(own[: count + 1]):
            shot = shot_of(self.shots, index)
            if shot.first_chunk == index and shot.transition == "recache":
                first = max(0, place - self.newest)
                said[first:place] = [self.words(index)] * (place - first)
        return said

    def memory_before(self, own: list[int], count: int) -> FilmMemory:
        """What a scene remembers after `count` chunks, from nothing, for the chunk that follows."""
        memory, start = FilmMemory(self.settings), 0
        for index, text in zip(own, self.remembered_by(own, count), strict=False):
            chunk = list(range(start, start + len(self.chunks[index])))
            placed, _ = self.read(memory, chunk, index)
            _, frames = self.model.forward(
                self.latents[index], 0.0, text, times=chunk, memory=placed
            )
            memory.commit(chunk, frames)
            start += len(chunk)
        return memory

    def read(self, memory: FilmMemory, chunk: list[int], index: int):
        """What a chunk reads, and the choice."""
        memory.make_room(len(chunk))
        memory.moment = self.moment(index)
        choice = memory.choose()
        return memory.placed(choice, chunk), choice

    def moment(self, index: int):
        """The moment that a chunk reads: its frame in this scene or None, and itself."""
        frame = shot_of(self.scenes, index).moment
        if frame is None:
            return None
        of = next(i for i, chunk in enumerate(self.chunks) if frame in chunk)
        own = self.own(of)
        place = own.index(of)
        number = sum(len(self.chunks[i]) for i in own[:place]) + frame - self.chunks[of][0]
        kept = self.memory_before(own, place + 1).frames[number]
        return (number if own == self.own(index) else None), kept


def film(
    model: Transformer,
    settings: Relaxed | OtherMemory,
    texts: dict[str, list[torch.Tensor]],
    shots: dict[str, list[Shot]],
    *,
    cfg: float,
    sigmas: list[float],
    shape: tuple[int, int, int],
    n: int,
    seed: int,
    sample: int = 0,
    prefix: torch.Tensor | None = None,
    newest: int = 2,
) -> torch.Tensor:
    """One sample's film `[16, *shape]`.

    `texts` and `shots` have the positive and, for a `cfg` other than 1, the negative prompt; those
    of the positive make scenes and moments.
    """
    total, height, width = shape
    given = 0 if prefix is None else prefix.shape[1]
    chunks = reference.chunks_of(given, total, n)
    latents: list[torch.Tensor] = []
    films = [
        Film(
            model=model,
            settings=settings,
            chunks=chunks,
            latents=latents,
            scenes=shots["positive"],
            shots=shots[name],
            texts=texts[name],
            newest=newest,
        )
        for name in texts
    ]
    for index, chunk in enumerate(chunks):
        own = films[0].own(index)
        place = own.index(index)
        start = sum(len(chunks[i]) for i in own[:place])
        local = list(range(start, start + len(chunk)))
        placed = [each.read(each.memory_before(own, place), local, index)[0] for each in films]
        said = [each.words(index) for each in films]
        predict = functools.partial(reference.predict_each, model, said, local, placed)
        if chunk[0] < given:
            latents.append(reference.to_model(prefix[:, chunk]))
            continue
        draw = functools.partial(
            reference.noise,
            seed + shot_of(shots["positive"], index).scene,
            sample,
            start,
            shape=(16, len(chunk), height, width),
        )
        x, _ = reference.denoise(predict, draw, sigmas, cfg)
        latents.append(x)
    return reference.from_model(torch.cat(latents, dim=1)[:, :total])
