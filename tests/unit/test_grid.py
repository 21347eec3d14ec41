"""Latent frames and video frames of a grid."""

import re

import pytest
from conftest import ROOT

from relax_memory.grid import WAN, Grid


@pytest.mark.parametrize("video_frames", [1, 4, 8])
def test_the_first_latent_frame_is_one_video_frame(video_frames):
    grid = Grid(video_frames=video_frames)
    assert [grid.length(frames) for frames in range(4)] == [
        *(0, 1),
        *(1 + video_frames, 1 + 2 * video_frames),
    ]
    for length in range(1, 100):
        frames = grid.latent_frames(length)
        assert grid.length(frames) <= length < grid.length(frames + 1)


def test_a_minute_of_wan():
    assert WAN.latent_frames(957) == 240
    assert WAN.seconds(240) == 60
    assert WAN.latent_size(832, 480) == (60, 104)
    assert WAN.multiple == 16


def test_the_rule_stands_in_one_place():
    rule = re.compile(r"// 4\b|\b4 \* \(|\b4 \* .* - 3\b|VIDEO_FRAMES|LATENT_CHANNELS|// 8\b")
    for folder in ("nodes", "relax_memory"):
        for path in ROOT.glob(f"{folder}/**/*.py"):
            if path.name != "grid.py":
                assert not rule.search(path.read_text("utf-8")), path
