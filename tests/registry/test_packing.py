"""What the registry's own tool makes of this repository: `comfy node validate` and `node pack`.

Run by `run.py test` with that tool in a folder of its own. It is let to reach nothing outside.
"""

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest
from conftest import ROOT
from unit.test_package import packed, pytestmark  # noqa: F401

MOST_BYTES = 20e6


@pytest.fixture
def comfy(tmp_path):
    """Runs a command of the tool, which leaves its settings in a folder that goes away."""
    alone = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    alone |= {"DO_NOT_TRACK": "1", "TERM": "dumb", "https_proxy": "http://127.0.0.1:9"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry"]
            + ["node", *arguments],
            cwd=ROOT,
            env=os.environ | alone,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_the_registry_finds_nothing_to_object_to(comfy):
    assert "All validation checks passed" in comfy("validate")


def test_the_package_is_what_is_meant_to_be_shipped(comfy):
    package = ROOT / "node.zip"
    try:
        comfy("pack")
        assert package.stat().st_size < MOST_BYTES
        with ZipFile(package) as files:
            assert {PurePosixPath(name) for name in files.namelist()} == packed()
            assert all(files.read(str(path)) == Path(ROOT, path).read_bytes() for path in packed())
    finally:
        package.unlink(missing_ok=True)
