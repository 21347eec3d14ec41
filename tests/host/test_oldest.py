"""A host that is too old says so when it loads the pack, and not with the first video."""

import asyncio
import importlib.util
import logging

import comfyui_version
import nodes as host_nodes
import pytest
import tiny
from comfy.model_patcher import ModelPatcher
from conftest import ROOT

from relax_memory.host.oldest import OLDEST


@pytest.fixture
def load(tmp_path, monkeypatch, caplog):
    """Load the pack as the host does, beside the one of the other tests; gives what was said."""
    tiny.pack()
    folder = tmp_path / "pack_of_an_older_host"
    folder.symlink_to(ROOT, target_is_directory=True)
    for kind in ("NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"):
        monkeypatch.setattr(host_nodes, kind, dict(getattr(host_nodes, kind)))

    def load():
        with caplog.at_level(logging.WARNING):
            return asyncio.run(host_nodes.load_custom_node(str(folder))), caplog.text

    return load


def without_causal_models(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *package: None if name.endswith("ar_model") else found(name, *package),
    )


LACKING = {
    "causal Wan models (comfy.ldm.wan.ar_model)": without_causal_models,
    "ModelPatcher.loaded_ram_size": lambda patch: patch.delattr(ModelPatcher, "loaded_ram_size"),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_host_that_lacks_something_is_refused_with_a_sentence(load, monkeypatch, lacking):
    monkeypatch.setattr(comfyui_version, "__version__", "0.22.0")
    LACKING[lacking](monkeypatch)
    loaded, said = load()
    assert not loaded
    assert f"needs ComfyUI {OLDEST} or newer, but this is 0.22.0, which has no {lacking}" in said
    assert "update ComfyUI." in said and "Traceback" not in said


@pytest.mark.parametrize("version", ["0.24.0", "0.9.10", "v0.23.5-dev"])
def test_a_host_older_than_those_that_were_tried_is_told_and_loads(load, monkeypatch, version):
    monkeypatch.setattr(comfyui_version, "__version__", version)
    loaded, said = load()
    assert loaded
    assert f"was tried on ComfyUI {OLDEST} and newer, but this is {version}: update" in said


@pytest.mark.parametrize("version", [OLDEST, "0.24.10", "0.30.0", "1.0", "a fork"])
def test_a_newer_host_is_told_nothing(load, monkeypatch, version):
    monkeypatch.setattr(comfyui_version, "__version__", version)
    loaded, said = load()
    assert loaded and "was tried on" not in said


def test_this_host_is_as_new():
    assert tuple(map(int, comfyui_version.__version__.split("."))) >= tuple(
        map(int, OLDEST.split("."))
    )


def test_the_registry_and_the_readme_say_the_same():
    said = {"pyproject.toml": f'requires-comfyui = ">={OLDEST}"'}
    said["README.md"] = f"needs ComfyUI {OLDEST} or newer"
    for name, words in said.items():
        assert words in (ROOT / name).read_text("utf-8"), name
