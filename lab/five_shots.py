"""Draws five shots of a minute by the demo's models: `docs/five-shots.webp`.

The film is made by the graph of the template *demo story*; only its text and its length are others.
The picture has a column for each shot: how it begins, how it goes on, how it ends. With the name of
a file, that one gets a picture of every half second, to look at.
`PYTHONPATH=tests:. python lab/five_shots.py [SHEET]`
"""

import json
import sys
import tempfile

import thumbnails  # first: it puts the host before the repository on the path

import folder_paths  # isort: skip
from conftest import ROOT
from PIL import Image
from thumbnails import GAP, Host, frames_of, on_demo_models, strip

WORKFLOW = thumbnails.WORKFLOWS / "api/Relax Forcing demo story - long video in four shots.json"
TARGET = ROOT / "docs/five-shots.webp"
TEXT = """[0s] Scene meadow: a red circle bouncing over a striped green field, fast
[12s] a blue circle bouncing over a striped green field, fast
[24s] Scene night: a white triangle circling over a dotted black field, slow
[36s blend 2s] a yellow triangle circling over a dotted black field, slow
[48s] Scene meadow: a blue circle bouncing over a striped green field, fast"""
SHOTS, SHOT_SECONDS, FPS = 5, 12, 16
LENGTH = 60 * FPS - 3
MOMENTS = (1.5, 6.0, 11.2)  # seconds of a shot; starts snap to chunks, half a second at most
SIDE, SMALL = 128, 64


def film() -> list[Image.Image]:
    """Its pictures."""
    thumbnails.prepare()
    workflow = on_demo_models(json.loads(WORKFLOW.read_text("utf-8")), TEXT, "")
    for node in workflow.values():
        if "length" in node["inputs"]:
            node["inputs"]["length"] = LENGTH
    with tempfile.TemporaryDirectory() as place:
        folder_paths.set_output_directory(place)
        video, *_ = Host().videos(workflow)
        return frames_of(video)


def rows(strips: list[Image.Image]) -> Image.Image:
    """Strips of the same size below each other."""
    width, height = strips[0].size
    whole = Image.new("RGB", (width, len(strips) * (height + GAP) - GAP), "white")
    for index, row in enumerate(strips):
        whole.paste(row, (0, index * (height + GAP)))
    return whole


def main() -> None:
    frames = film()
    starts = [FPS * SHOT_SECONDS * shot for shot in range(SHOTS)]
    shown = [[frames[start + int(FPS * at)] for start in starts] for at in MOMENTS]
    rows([strip(row, SIDE) for row in shown]).save(TARGET, quality=90)
    if sys.argv[1:]:
        seconds = [frames[start : start + FPS * SHOT_SECONDS : FPS // 2] for start in starts]
        rows([strip(half[:24], SMALL) for half in seconds]).save(sys.argv[1])


if __name__ == "__main__":
    main()
