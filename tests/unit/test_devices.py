"""One file knows CUDA; all else takes the device that it is given."""

import ast
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from relax_memory.memory import transfer

KNOWS_CUDA = "relax_memory/memory/transfer.py"
OF_ONE_KIND = {"cuda", "xpu", "mps", "npu", "cudart", "pin_memory", "is_pinned"}
SHIPPED = sorted(
    path for folder in ("relax_memory", "nodes") for path in ROOT.glob(f"{folder}/**/*.py")
)


def named(text: str) -> set[str]:
    """Attributes and imports of code that only some devices have; settings are everywhere."""
    tree = list(ast.walk(ast.parse(text)))
    found = {
        node.attr
        for node in tree
        if isinstance(node, ast.Attribute) and not ast.unparse(node.value).endswith(".backends")
    }
    found |= {
        node.module.rpartition(".")[2]
        for node in tree
        if isinstance(node, ast.ImportFrom) and node.module
    }
    found |= {
        part
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
        for part in name.name.split(".")
    }
    return found & OF_ONE_KIND


@pytest.mark.parametrize(
    "text",
    [
        "torch.cuda.synchronize()",
        "import torch.cuda",
        "from torch import cuda",
        "from torch.cuda import Stream",
        "x.pin_memory()",
    ],
)
def test_what_only_some_devices_have_is_found(text):
    assert named(text)


@pytest.mark.parametrize("kind", ["xpu", "mps", "cpu", "hpu", "privateuseone"])
def test_streams_and_pinned_memory_are_asked_for_on_cuda_alone(monkeypatch, kind):
    """Intel's have streams, which the host uses only where it is told to; it pins nothing there."""
    monkeypatch.setattr(transfer, "torch", SimpleNamespace(empty=torch.empty))
    assert not transfer.has_streams(torch.device(kind))
    moved = transfer.Transfer(torch.device(kind))
    target = moved.empty((2, 3), torch.float32)
    moved.send([(target, torch.ones(2, 3))])
    assert torch.equal(target, torch.ones(2, 3))


def test_one_file_knows_what_only_some_devices_have():
    knowing = {
        path.relative_to(ROOT).as_posix() for path in SHIPPED if named(path.read_text("utf-8"))
    }
    assert knowing == {KNOWS_CUDA}
