"""What we take from the host's modules is there, as comfy-import-guard sees it, on any host."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HOST, ROOT

FOLDERS = ("relax_memory", "nodes", "demo")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """The tool reads a host through git."""
    cache = tmp_path_factory.mktemp("cache")
    host = cache / "ComfyUI"
    for folder in ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "utils", "app"):
        shutil.copytree(HOST / folder, host / folder, ignore=shutil.ignore_patterns("*.json"))
    for path in HOST.glob("*.py"):
        shutil.copy(path, host)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "-f", "."], ["commit", "-qm", "host"]):
        subprocess.run(git + command, cwd=host, check=True)
    return cache


def checked(cache: Path, installed: Path) -> subprocess.CompletedProcess:
    arguments = ["check", "--cache-dir", cache, "--comfy-dir", installed, "--target", "HEAD"]
    start = "import sys; from comfy_import_guard.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", start, "--offline", *arguments, "--no-update", "--strict"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONUTF8": "1"},
    )


@pytest.fixture
def pack(tmp_path) -> Path:
    """A copy of ours in the folders of a host."""
    pack = tmp_path / "custom_nodes" / "pack"
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, pack / folder, ignore=shutil.ignore_patterns("*.safetensors")
        )
    shutil.copy(ROOT / "__init__.py", pack)
    return pack


def test_all_that_we_import_of_the_host_is_there(cache, pack):
    done = checked(cache, pack.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pack  SAFE" in done.stdout
    with open(pack / "nodes" / "plan.py", "a") as file:  # it would find what is not
        file.write("\nfrom comfy.model_patcher import ModelPatcherOfTomorrow\n")
    done = checked(cache, pack.parents[1])
    assert done.returncode == 1 and "ModelPatcherOfTomorrow" in done.stdout
