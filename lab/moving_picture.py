"""Draws moments of a video side by side, moving: `docs/demo.webp` from what `run.py demo` made.

`python lab/moving_picture.py VIDEO`
"""

import sys
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

TARGET = Path(__file__).resolve().parents[1] / "docs/demo.webp"
SECONDS = (0, 18, 37, 56)  # where each moment begins
LENGTH_SECONDS, FPS = 4, 16
SIDE, GAP, TITLE = 192, 8, 26  # pixels


def frames_of(path: str) -> list[Image.Image]:
    with av.open(path) as video:
        return [frame.to_image() for frame in video.decode(video=0)]


def page(pictures: list[Image.Image]) -> Image.Image:
    font = ImageFont.load_default(size=15)
    width = len(pictures) * (SIDE + GAP) - GAP
    drawn = Image.new("RGB", (width, SIDE + TITLE), (13, 17, 23))
    pen = ImageDraw.Draw(drawn)
    for place, (picture, second) in enumerate(zip(pictures, SECONDS, strict=True)):
        x = place * (SIDE + GAP)
        drawn.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, TITLE))
        moment = f"seconds {second} to {second + LENGTH_SECONDS}"
        pen.text((x + SIDE // 2, TITLE // 2), moment, (201, 209, 217), font, anchor="mm")
    return drawn


def main(path: str) -> None:
    frames = frames_of(path)
    pages = [
        page([frames[min(FPS * second + moment, len(frames) - 1)] for second in SECONDS])
        for moment in range(FPS * LENGTH_SECONDS)
    ]
    pages[0].save(
        TARGET,
        save_all=True,
        append_images=pages[1:],
        duration=round(1000 / FPS),
        loop=0,
        quality=70,
        method=6,
    )
    print(f"Wrote {TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
