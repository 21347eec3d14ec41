"""What the host says of a model's latents is what the pack reckons with."""

import comfy.latent_formats
import tiny

from relax_memory.grid import WAN, Grid
from relax_memory.host.model.family import grid_of


def test_the_defaults_of_a_grid_are_those_of_the_hosts_wan():
    assert grid_of(tiny.model()) == grid_of(tiny.model("causal")) == WAN


def test_another_format_has_another_grid():
    model = tiny.model().clone()
    model.add_object_patch("latent_format", comfy.latent_formats.Wan22())
    assert grid_of(model) == Grid(channels=48, pixels=16)
