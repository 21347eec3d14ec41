"""The registry's package holds what the pack needs in a user's ComfyUI, and nothing else.

`comfy node pack` takes what git knows and `.comfyignore` leaves, in git's own syntax.
"""

import ast
import functools
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from conftest import ROOT
from pathspec import PathSpec

SHIPPED = {"demo", "nodes", "relax_memory", "web", "workflows"}
FILES = {"__init__.py", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}

# comfy-cli calls the syntax by this name, which newer versions of pathspec would like to change
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


@functools.cache
def ignored() -> PathSpec:
    return PathSpec.from_lines("gitwildmatch", (ROOT / ".comfyignore").read_text().splitlines())


def packed() -> set[PurePosixPath]:
    known = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {PurePosixPath(path) for path in known if not ignored().match_file(path)}


def imported(path: PurePosixPath) -> set[PurePosixPath]:
    """Modules of the pack that a file of it imports, as paths without a suffix."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = path.parents[node.level - 1]
            found.add(package / (node.module or "").replace(".", "/"))
            found |= {package / name.name for name in node.names} if not node.module else set()
    return found


def test_only_what_is_named_is_shipped():
    files = packed()
    assert {path.parts[0] for path in files if len(path.parts) > 1} == SHIPPED
    assert {path.name for path in files if len(path.parts) == 1} == FILES


@pytest.mark.parametrize(
    "path", ["key.txt", ".env", "farm/run.py", "lab/world.py", "nodes/__pycache__/plan.pyc"]
)
def test_a_new_file_is_not_shipped_until_it_is_named(path):
    assert ignored().match_file(path)


def test_everything_that_shipped_code_imports_is_shipped():
    files = packed()
    modules = {path.with_suffix("") for path in files if path.suffix == ".py"}
    modules |= {path.parent for path in modules if path.name == "__init__"}
    for path in files:
        if path.suffix == ".py":
            assert imported(path) <= modules, path


def test_models_pages_and_workflows_are_shipped_with_their_pictures():
    files = packed()
    assert {path.name for path in files if path.parts[0] == "demo" and path.suffix != ".py"} == {
        "model.safetensors",
        "vae.safetensors",
    }
    for folder in ("web", "workflows"):
        on_disk = {path.relative_to(ROOT) for path in ROOT.glob(f"{folder}/**/*") if path.is_file()}
        assert {Path(path) for path in files if path.parts[0] == folder} == on_disk
