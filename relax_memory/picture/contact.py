"""A sheet of auditions: for each video a number, its seed and a few of its pictures in order.

As many columns as make the sheet about as wide as a screen is. Knows pictures, no tensors and no
host. Dark, as what it shows is bright.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

DARK, BRIGHT, SOFT = (30, 30, 30), (240, 240, 240), (165, 165, 165)
PICTURES = 4  # of each video
SIDES = (320, 240, 180, 120, 80)  # the longer one of a picture, so that the sheet is no larger than
MOST_PIXELS = 6_000_000
ASPECT = 1.6
GAP, HEADER, MARGIN = 6, 46, 24


@dataclass(frozen=True, kw_only=True)
class Audition:
    """What is shown of a video: pictures are uint8 `[H, W, 3]`; no seed where it is not known."""

    number: int
    seed: int | None
    pictures: Sequence[np.ndarray]


def draw_sheet(auditions: Sequence[Audition]) -> np.ndarray:
    """Draw one or more auditions: uint8 `[height, width, 3]`."""
    layouts = [_Layout(auditions, side) for side in SIDES]
    fitting = (layout for layout in layouts if layout.width * layout.height <= MOST_PIXELS)
    return next(fitting, layouts[-1]).draw(auditions)


class _Layout:
    """Where everything stands if the longer side of a picture is so long."""

    def __init__(self, auditions: Sequence[Audition], side: int) -> None:
        height, width = auditions[0].pictures[0].shape[:2]
        scale = side / max(height, width)
        self._picture = max(1, round(width * scale)), max(1, round(height * scale))
        pictures = max(len(audition.pictures) for audition in auditions)
        self._header = round(HEADER * (0.5 + 0.5 * side / SIDES[0]))
        self._card_width = pictures * (self._picture[0] + GAP) - GAP
        self._card_height = self._header + self._picture[1]
        self.columns = min(
            range(1, len(auditions) + 1),
            key=lambda columns: abs(math.log(self._aspect(len(auditions), columns) / ASPECT)),
        )
        self.width, self.height = self._size(len(auditions), self.columns)

    def draw(self, auditions: Sequence[Audition]) -> np.ndarray:
        sheet = Image.new("RGB", (self.width, self.height), DARK)
        for index, audition in enumerate(auditions):
            row, column = divmod(index, self.columns)
            x = MARGIN + column * (self._card_width + 2 * MARGIN)
            y = MARGIN + row * (self._card_height + MARGIN)
            self._write(ImageDraw.Draw(sheet), x, y, audition)
            for picture in audition.pictures:
                fitted = ImageOps.pad(
                    Image.fromarray(picture), self._picture, Image.Resampling.LANCZOS, DARK
                )
                sheet.paste(fitted, (x, y + self._header))
                x += self._picture[0] + GAP
        return np.array(sheet)

    def _write(self, pen: ImageDraw.ImageDraw, x: int, y: int, audition: Audition) -> None:
        """The number, and as much of the seed as there is room for beside it."""
        line = y + round(0.8 * self._header)
        large, small = (ImageFont.load_default(size=share * self._header) for share in (0.85, 0.5))
        number = str(audition.number)
        pen.text((x, line), number, fill=BRIGHT, font=large, anchor="ls", stroke_width=1)
        if audition.seed is not None:
            after = x + large.getlength(number) + self._header / 3
            pen.text((after, line), f"seed {audition.seed}", fill=SOFT, font=small, anchor="ls")

    def _aspect(self, count: int, columns: int) -> float:
        width, height = self._size(count, columns)
        return width / height

    def _size(self, count: int, columns: int) -> tuple[int, int]:
        rows = math.ceil(count / columns)
        return (
            columns * (self._card_width + 2 * MARGIN),
            MARGIN + rows * (self._card_height + MARGIN),
        )
