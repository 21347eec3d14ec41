"""Which pictures the sampler shows, by what the user chose."""

import sys
from types import SimpleNamespace

import comfy.options
import latent_preview
import pytest
import seen
import tiny
from comfy.cli_args import LatentPreviewMethod, args

from relax_memory.host.sampling.previews import previewer

RGB = latent_preview.Latent2RGBPreviewer


def queued_with(browser, method) -> None:
    item = (0, "prompt", {}, {"preview_method": method} if method else {}, [])
    queue = SimpleNamespace(get_current_queue_volatile=lambda: ([item], []))
    browser.prompt_queue = queue


def shown(method=None, start=(), monkeypatch=None):
    """The previewer under a setting of the browser and arguments of the server's start."""
    monkeypatch.setattr(comfy.options, "args_parsing", True)
    monkeypatch.setattr(sys, "argv", ["main.py", *start])
    before = args.preview_method
    with seen.node() as browser:
        queued_with(browser, method)
        latent_preview.set_preview_method(method)
        try:
            return previewer(tiny.model())
        finally:
            args.preview_method = before


@pytest.mark.parametrize("method", [None, "default", "auto", "latent2rgb"])
def test_pictures_are_shown_where_the_user_chose_nothing_or_some(method, monkeypatch):
    assert isinstance(shown(method, monkeypatch=monkeypatch), RGB)


@pytest.mark.parametrize(
    ("method", "start"), [("none", ()), ("default", ("--preview-method", "none"))]
)
def test_no_pictures_are_shown_where_the_user_chose_none(method, start, monkeypatch):
    assert shown(method, start, monkeypatch) is None


def test_the_previewer_of_another_node_stays(monkeypatch):
    animated = object()
    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: animated)
    assert shown(monkeypatch=monkeypatch) is animated


def test_the_host_shows_none_of_its_own_by_default():
    assert args.preview_method == LatentPreviewMethod.NoPreviews
