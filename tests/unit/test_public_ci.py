"""Commands, paths and versions that the public workflows name are those of this repository.

Whether they run there only a push can tell.
"""

import os
import re

import pytest
import yaml
from conftest import ROOT

import run

WORKFLOWS = {path.stem: path.read_text("utf-8") for path in (ROOT / ".github/workflows").iterdir()}


def jobs() -> dict:
    return {
        n: job for text in WORKFLOWS.values() for n, job in yaml.safe_load(text)["jobs"].items()
    }


def steps() -> list[dict]:
    return [step for job in jobs().values() for step in job.get("steps", [])]


def test_every_command_is_one_of_ours():
    commands = [
        word for step in steps() for word in re.findall(r"run\.py (.+)", step.get("run", ""))
    ]
    assert len(commands) > 1
    for command, *paths in map(str.split, commands):
        assert command in run.COMMANDS
        assert all((ROOT / path).exists() for path in paths)
    assert any(step.get("run") == ".ci/run" for step in steps())
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_every_file_is_there():
    named = [
        path
        for step in steps()
        for path in step.get("with", {}).get("cache-dependency-path", "").split()
    ]
    named += [job["uses"] for job in jobs().values() if "uses" in job]
    assert named and all((ROOT / path).is_file() for path in named)


@pytest.mark.parametrize(
    "step", [step for step in steps() if "uses" in step], ids=lambda s: s["uses"]
)
def test_what_others_wrote_is_pinned(step):
    assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])


def test_versions_are_those_that_are_tested_here():
    packing, *_ = run.PACKING
    assert f"pip install {packing}" in WORKFLOWS["publish"]
    tags = jobs()["hosts"]["strategy"]["matrix"]["host"]
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'requires-comfyui = ">={tags[0][1:]}"' in settings
    (front_end,) = run.NEWER
    assert front_end in WORKFLOWS["test"]
    assert front_end.split("==")[1] in (ROOT / "docs/hosts.md").read_text("utf-8")
    pythons = jobs()["test"]["strategy"]["matrix"]["python"]
    assert f"needs Python {pythons[0]} to {pythons[-1]}" in (ROOT / "run.py").read_text("utf-8")
