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

from lab.clips import Clip, still
from lab.world import (
    PARTS,
    RADII,
    SPEEDS,
    SWING,
    Scene,
    fraction,
    near,
    part_number,
    parts,
    positions,
)

NUMBERS = 7  # that tell how it does


class Cues:
    """What the noise of every chunk of clips tells: of the first ones, how things begin.

    Args:
        chunks: how many of each clip.
        chunk_frames: latent frames of a chunk.
        apart: whether two things begin apart, as `coupled` wants to know.
    """

    def __init__(
        self,
        clips: list[Clip],
        rng: random.Random,
        *,
        chunks: int,
        chunk_frames: int,
        apart: bool = False,
    ) -> None:
        self._clips, self._rng = clips, rng
        self._chunk_frames, self._apart = chunk_frames, apart
        self._cells = torch.full((len(clips), chunks, 2), -1)
        self._numbers = torch.zeros(len(clips), chunks, 2, NUMBERS)
        for row in range(len(clips)):
            self._tell(row, 0, slice(None))

    def forget(self, past: Tensor, share: float, *, absent: bool = False) -> Tensor:
        """The past `[B, C, T, h, w]` without a thing, from some chunk on, in a share of the clips.

        From now on the chunks after that one are told where it is.

        Args:
            absent: show the clip as it is where the thing has never been; otherwise it is erased
                from the latents, and a model learns to see the traces of that.
        """
        past = past.clone()
        chunks = self._cells.shape[1]
        for row, clip in enumerate(self._clips):
            if self._rng.random() < share:
                thing = clip.missing if absent else self._rng.randrange(len(clip.scene.things))
                chunk = self._rng.randrange(chunks - 1)
                begin = chunk * self._chunk_frames
                here = past[row, :, begin:]
                if absent:
                    here.copy_(clip.without[:, begin:])
                else:
                    gone = clip.shows(thing)[begin:].to(past.device)
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
        told = coupled(chunks, cells.flatten(0, 1), numbers.flatten(0, 1), apart=self._apart)
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
        The cell `[2]` of each of two things among `PARTS` rows and columns, -1 for one not there,
        and `[2, NUMBERS]`: place in the cell, velocity, swing, radius. Over all clips cells are
        about evenly and numbers normally distributed, and all of them are independent.
    """
    cells, numbers = torch.full((2,), -1), torch.zeros(2, NUMBERS)
    here, next_ = positions(scene, torch.tensor([moment, moment + 1]))
    for index, (thing, place, after) in enumerate(zip(scene.things, here, next_, strict=True)):
        across, down = parts(thing, place)
        cells[index] = part_number(across, down)
        heading = math.atan2(*(after - place).flip(0).tolist())
        speed = fraction(math.hypot(*thing.velocity), *SPEEDS[scene.speed])
        numbers[index] = torch.tensor(
            [
                *(NormalDist().inv_cdf(_inner(number % 1)) for number in (across, down)),
                *_vector(heading, speed),
                *_vector(thing.phase + SWING * moment, rng.random()),
                NormalDist().inv_cdf(_inner(fraction(thing.radius, *RADII))),
            ]
        )
    return cells, numbers


def _inner(share: float) -> float:
    return min(max(share, 0.01), 0.99)


def _vector(angle: float, share: float) -> tuple[float, float]:
    """Two independent normal numbers, if all angles and shares are as frequent."""
    length = math.sqrt(-2 * math.log(1 - _inner(share)))
    return length * math.cos(angle), length * math.sin(angle)


def coupled(noise: Tensor, cells: Tensor, numbers: Tensor, *, apart: bool = False) -> Tensor:
    """Noise of chunks whose first frames tell where things are; the arguments are not changed.

    Half of the channels tell of one thing. Of its cells the one with the greatest mean in the first
    channel changes places with the one the thing is in, and the other channels have the numbers as
    their means there. All that a token needs to know is in it or near it.

    Args:
        noise: `[B, C, frames, h, w]`.
        cells, numbers: `[B, 2]` and `[B, 2, NUMBERS]`, as of `beginning`. Of a thing whose cell is
            -1 nothing is told.
        apart: where both things are told, the second is told by the greatest of those cells that
            are not near the first: any noise then tells of two things apart.
    """
    height, width = (pixels // PARTS for pixels in noise.shape[-2:])
    shares = rearrange(
        noise[:, :, 0], "b (t c) (i y) (j x) -> (b t) (i j) c (y x)", t=2, y=height, x=width
    ).clone()
    loudness = shares[:, :, 0].mean(-1)
    if apart:
        first = cells[:, :1]
        every = torch.arange(PARTS * PARTS, device=cells.device)
        loudness[1::2].masked_fill_(near(every, first) & (first >= 0), -math.inf)
    rows, cells = torch.arange(len(shares), device=shares.device), cells.flatten()
    greatest = loudness.argmax(1)
    told = shares[rows, greatest]
    wanted = numbers.flatten(0, 1) / (height * width) ** 0.5
    told[:, 1:] += (wanted - told[:, 1:].mean(-1))[..., None] * (cells >= 0)[:, None, None]
    cells = cells.where(cells >= 0, greatest)
    shares[rows, greatest] = shares[rows, cells]
    shares[rows, cells] = told
    frame = rearrange(
        shares, "(b t) (i j) c (y x) -> b (t c) 1 (i y) (j x)", t=2, i=PARTS, y=height
    )
    return torch.cat([frame, noise[:, :, 1:]], dim=2)
