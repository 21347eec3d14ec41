"""The host before everything else: `tiny` tells it to run on the CPU."""

import functools

import folder_paths
import live
import pytest
import tiny  # noqa: F401


@pytest.fixture
def model_folder(tmp_path, monkeypatch):
    """The host's folder for diffusion models and for LoRAs, empty."""
    for kind in ("diffusion_models", "loras"):
        entry = ([str(tmp_path)], folder_paths.supported_pt_extensions)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, entry)
    return tmp_path


@pytest.fixture
def many_starts(monkeypatch):
    """Servers may start again and again on a folder: their models are written once."""
    for name in ("write_models", "write_inputs"):
        monkeypatch.setattr(live, name, functools.cache(getattr(live, name)))
