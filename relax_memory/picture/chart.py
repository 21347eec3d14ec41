"""A strip chart over the time of a video: bitmaps with one column a latent frame, and words.

Knows the width of the picture, the time axis and the font; not what the strips mean. The only
font is the one inside Pillow, which has Latin letters and no arrows, dashes or Greek.
"""

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from ..grid import Grid

WIDTH, LEFT, RIGHT, MARGIN, LINE, GAP = 2000, 150, 410, 36, 30, 14
PLOT = WIDTH - LEFT - RIGHT
MAX_HEIGHT = 2400
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000)

Colour = tuple[int, int, int]
WHITE, HAIR, SOFT, INK = (255, 255, 255), (228, 228, 228), (112, 112, 112), (34, 34, 34)


class Chart:
    """A page as wide for an hour of video as for a second; strips are laid on it at a given `y`."""

    def __init__(self, frames: int, fps: float) -> None:
        self.frames = frames
        self._grid = Grid(fps=fps)
        self._image = Image.new("RGB", (WIDTH, MAX_HEIGHT), WHITE)
        self._pen = ImageDraw.Draw(self._image)

    def pixels(self, height: int) -> np.ndarray:
        """The upper `height` pixels as uint8 `[height, width, 3]`."""
        return np.array(self._image.crop((0, 0, WIDTH, height)))

    def video_seconds(self, frames: int) -> float:
        """How long the first `frames` latent frames of a video last."""
        return self._grid.length(frames) / self._grid.fps

    def ago_seconds(self, frames: float) -> float:
        """How long ago `frames` latent frames are."""
        return self._grid.seconds(frames)

    def blank(self, height: int) -> np.ndarray:
        """An empty strip, `[height, frames, 3]`."""
        return np.full((height, self.frames, 3), WHITE, np.uint8)

    def lay(self, strip: np.ndarray, y: int) -> int:
        """Lay a strip over the grid and return where it ends.

        Latent frames are stretched to the width of the plot; where many share a pixel, their mean
        is shown.
        """
        end = y + len(strip)
        for _, x in self._moments():
            self._pen.line((x, y, x, end - 1), fill=HAIR, width=2)
        box = (LEFT, y, LEFT + PLOT, end)
        drawn = Image.fromarray(strip).resize((PLOT, len(strip)), Image.Resampling.BOX)
        self._image.paste(ImageChops.multiply(self._image.crop(box), drawn), box)
        return end

    def write(
        self,
        x: float,
        y: float,
        text: str,
        *,
        ink: Colour = SOFT,
        size: int = 22,
        anchor: str = "lm",
    ) -> float:
        """Write a line, placed by Pillow's `anchor`, and return where it ends."""
        font = ImageFont.load_default(size=size)
        self._pen.text((x, y), text, fill=ink, font=font, anchor=anchor)
        return x + font.getlength(text)

    def width(self, text: str, *, size: int) -> float:
        """How wide a line would be."""
        return ImageFont.load_default(size=size).getlength(text)

    def shortened(self, text: str, room: float, *, size: int) -> str:
        """As much of a line as there is room for; three dots stand for the rest."""
        kept = text
        while kept and self.width(kept + "..." * (kept != text), size=size) > room:
            kept = kept[:-1].rstrip()
        return kept + "..." * (kept != text) if len(kept) > 1 else ""

    def x(self, frame: int) -> int:
        """Where a latent frame begins."""
        return LEFT + round(frame / self.frames * PLOT)

    def mark(self, first: int, end: int, y: int, height: int, colour: Colour) -> tuple[int, int]:
        """Fill latent frames from `first` on, wide enough to be seen; return its edges."""
        left, right = self.x(first), self.x(end)
        right = max(right, left + 4)
        self._pen.rectangle((left, y, right - 1, y + height - 1), fill=colour)
        return left, right

    def line(self, x: float, top: int, bottom: int, colour: Colour, width: int = 2) -> None:
        """Draw downwards."""
        self._pen.line((x, top, x, bottom - 1), fill=colour, width=width)

    def swatch(self, x: float, y: float, colours: list[Colour], *, height: int) -> float:
        """Draw a sample of a line or, with many colours, of a scale; return where it ends."""
        for i, colour in enumerate(colours):
            left, right = (x + 44 * at / len(colours) for at in (i, i + 1))
            self._pen.rectangle((left, y - height / 2, right, y + height / 2 - 1), fill=colour)
        return x + 44

    def time_axis(self, y: int) -> int:
        """Write the moments of the video as a player shows them and as latent frames."""
        moments = list(self._moments())
        whole = all(seconds == int(seconds) for seconds, _ in moments)
        for seconds, x in moments:
            self._pen.line((x, y, x, y + 8), fill=SOFT, width=2)
            moment = clock(seconds) if whole else f"{seconds:g} s"
            self.write(x, y + LINE, moment, ink=INK, anchor="ms")
            self.write(x, y + 2 * LINE, str(self._frame_at(seconds)), anchor="ms")
        self.write(LEFT - 40, y + LINE, "time", ink=INK, anchor="rs")
        self.write(LEFT - 40, y + 2 * LINE, "frame", anchor="rs")
        return y + 2 * LINE

    def _frame_at(self, seconds: float) -> int:
        return math.ceil(seconds * self._grid.fps / self._grid.video_frames)

    def _moments(self) -> Iterator[tuple[float, int]]:
        """Round moments of the video in seconds, and their place."""
        for seconds in ticks(self.video_seconds(self.frames), 12, least=self.ago_seconds(1)):
            yield seconds, LEFT + round(self._frame_at(seconds) / self.frames * PLOT)


def ticks(span: float, most: int, *, least: float) -> list[float]:
    """Seconds from 0 to `span` in round steps of at least `least`, at most `most` of them."""
    step = next((s for s in STEPS if s >= least and span / s <= most), max(span, least))
    return [i * step for i in range(int(span / step) + 1)]


def clock(seconds: float) -> str:
    """Whole seconds as a player shows them, 0:09 or 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def duration(seconds: float) -> str:
    """Two decimals at the most, and above two minutes as `clock` has it."""
    return f"{round(seconds, 2):g} s" if seconds < 120 else clock(seconds)
