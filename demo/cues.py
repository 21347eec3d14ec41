"""Noise that tells where things are.

The best answer to a question with many answers is their mean, which is nothing at all: few steps
would not find one. So the noise that a chunk starts from is coupled with what it shall show where
neither the text nor the past says it, while as a whole the noise stays what it was, independent and
normally distributed.
"""

import math
import random
from statistics import NormalDist

import torch
from einops import rearrange
from torch import Tensor

from demo.clips import Clip, still
from demo.world import RADII, SIZE, SPEEDS, SWING, Scene, positions

CELLS = 4  # rows and columns of cells of a frame, one of which a thing begins in
NUMBERS = 7  # that tell how it does


class Cues:
    """What the noise of every chunk of clips tells: of the first ones, how things begin.

    Args:
        chunks: how many of each clip.
        chunk_frames: latent frames of a chunk.
    """

    def __init__(
        self, clips: list[Clip], rng: random.Random, *, chunks: int, chunk_frames: int
    ) -> None:
        self._clips, self._rng = clips, rng
        self._chunk_frames = chunk_frames
        self._cells = torch.full((len(clips), chunks, 2), -1)
        self._numbers = torch.zeros(len(clips), chunks, 2, NUMBERS)
        for row in range(len(clips)):
            self._tell(row, 0, slice(None))

    def forget(self, past: Tensor, share: float) -> Tensor:
        """The past `[B, C, T, h, w]` without a thing, from some chunk on, in a share of the clips.

        From now on the chunks after that one are told where it is.
        """
        past = past.clone()
        chunks = self._cells.shape[1]
        for row, clip in enumerate(self._clips):
            if self._rng.random() < share:
                thing = self._rng.randrange(len(clip.scene.things))
                chunk = self._rng.randrange(chunks - 1)
                here = past[row, :, chunk * self._chunk_frames :]
                gone = clip.shows(thing)[chunk * self._chunk_frames :].to(past.device)
                here.copy_(still(clip.latents).to(past.device).where(gone, here))
                for later in range(chunk + 1, chunks):
                    self._tell(row, later, thing)
        return past

    def couple(self, noise: Tensor, sigmas: Tensor) -> Tensor:
        """Noise `[B, C, T, h, w]` that tells, where a level of `[B, chunks]` says there is no more.

        For a later step a sampler draws its noise anew, and that tells nothing.
        """
        cells = self._cells.to(noise.device).where((sigmas == 1)[..., None], -1)
        numbers = self._numbers.to(noise.device)
        chunks = rearrange(noise, "b c (n f) h w -> (b n) c f h w", f=self._chunk_frames)
        told = coupled(chunks, cells.flatten(0, 1), numbers.flatten(0, 1))
        return rearrange(told, "(b n) c f h w -> b c (n f) h w", b=len(noise))

    def _tell(self, row: int, chunk: int, thing: int | slice) -> None:
        clip = self._clips[row]
        moment = clip.video_frame(chunk * self._chunk_frames)
        cells, numbers = beginning(clip.scene, moment, self._rng)
        self._cells[row, chunk, thing] = cells[thing]
        self._numbers[row, chunk, thing] = numbers[thing]


def beginning(scene: Scene, moment: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Where things are at a moment and how they move, as `coupled` wants it.

    Returns:
        The cell `[2]` of each of two things among `CELLS` rows and columns, -1 for one not there,
        and `[2, NUMBERS]`: place in the cell, velocity, swing, radius. Over all clips cells are
        about evenly and numbers normally distributed, and all of them are independent.
    """
    cells, numbers = torch.full((2,), -1), torch.zeros(2, NUMBERS)
    here, next_ = positions(scene, torch.tensor([moment, moment + 1]))
    for index, (thing, place, after) in enumerate(zip(scene.things, here, next_, strict=True)):
        across, down = (
            CELLS * _share(x, thing.radius, SIZE - thing.radius) for x in place.tolist()
        )
        cells[index] = CELLS * int(down) + int(across)
        heading = math.atan2(*(after - place).flip(0).tolist())
        speed = _share(math.hypot(*thing.velocity), *SPEEDS[scene.speed])
        numbers[index] = torch.tensor(
            [
                *(NormalDist().inv_cdf(_inner(number % 1)) for number in (across, down)),
                *_vector(heading, speed),
                *_vector(thing.phase + SWING * moment, rng.random()),
                NormalDist().inv_cdf(_inner(_share(thing.radius, *RADII))),
            ]
        )
    return cells, numbers


def _share(number: float, least: float, most: float) -> float:
    """Of the way from `least` to `most`; never all of it."""
    return min(max((number - least) / (most - least), 0.0), 1.0 - 1e-6)


def _inner(share: float) -> float:
    return min(max(share, 0.01), 0.99)


def _vector(angle: float, share: float) -> tuple[float, float]:
    """Two independent normal numbers, if all angles and shares are as frequent."""
    length = math.sqrt(-2 * math.log(1 - _inner(share)))
    return length * math.cos(angle), length * math.sin(angle)


def coupled(noise: Tensor, cells: Tensor, numbers: Tensor) -> Tensor:
    """Noise of chunks whose first frames tell where things are; the arguments are not changed.

    Half of the channels tell of one thing. Of its cells the one with the greatest mean in the first
    channel changes places with the one the thing is in, and the other channels have the numbers as
    their means there. All that a token needs to know is in it or near it.

    Args:
        noise: `[B, C, frames, h, w]`.
        cells, numbers: `[B, 2]` and `[B, 2, NUMBERS]`, as of `beginning`. Of a thing whose cell is
            -1 nothing is told.
    """
    height, width = (pixels // CELLS for pixels in noise.shape[-2:])
    parts = rearrange(
        noise[:, :, 0], "b (t c) (i y) (j x) -> (b t) (i j) c (y x)", t=2, y=height, x=width
    ).clone()
    rows, cells = torch.arange(len(parts), device=parts.device), cells.flatten()
    greatest = parts[:, :, 0].mean(-1).argmax(1)
    told = parts[rows, greatest]
    wanted = numbers.flatten(0, 1) / (height * width) ** 0.5
    told[:, 1:] += (wanted - told[:, 1:].mean(-1))[..., None] * (cells >= 0)[:, None, None]
    cells = cells.where(cells >= 0, greatest)
    parts[rows, greatest] = parts[rows, cells]
    parts[rows, cells] = told
    first = rearrange(parts, "(b t) (i j) c (y x) -> b (t c) 1 (i y) (j x)", t=2, i=CELLS, y=height)
    return torch.cat([first, noise[:, :, 1:]], dim=2)
