"""Imports go one way: down the floors of section 4 of the design, and never in a circle."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

FLOORS = (  # from the top; a room may import its own floor and those below
    {"nodes"},
    {"host"},
    {"saved", "film", "picture", "rollout", "keepers"},
    {"memory", "plan", "storyboard", "trace", "noise"},
    {"policies"},
    {"scoring"},
    {"passes"},
    {"roles", "grid", "direction", "disk", "recipes", "scenes"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PACKAGES = ("relax_memory", "nodes")
MODULES = sorted(path for package in PACKAGES for path in ROOT.glob(f"{package}/**/*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def room_of(module: str) -> str:
    package, _, rest = module.partition(".")
    return "nodes" if package == "nodes" else rest.partition(".")[0]


def imports_of(path: Path) -> set[str]:
    """Modules of the pack that a file imports, wherever in it; all of its imports are relative."""
    folder = path.relative_to(ROOT).parent
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(folder.parts[: len(folder.parts) - node.level + 1])
            source = ".".join(filter(None, (base, node.module)))
            submodules = {f"{source}.{name.name}".lstrip(".") for name in node.names}
            found |= submodules & NAMES or {source}
    return found


GRAPH = {name_of(path): imports_of(path) for path in MODULES}


def in_circle(module: str) -> bool:
    seen, waiting = set(), list(GRAPH[module])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += GRAPH.get(name, ())
    return module in seen


@pytest.mark.parametrize("module", GRAPH)
def test_a_module_imports_its_own_floor_and_those_below(module):
    room = room_of(module)
    for imported in GRAPH[module]:
        if imported.partition(".")[0] in PACKAGES and room:
            assert FLOOR_OF[room_of(imported)] >= FLOOR_OF[room], f"{module} imports {imported}"
    assert not in_circle(module)


def test_every_room_has_a_floor_and_every_floor_its_rooms():
    assert {room_of(module) for module in GRAPH} - {""} == set(FLOOR_OF)


def test_the_core_imports_only_the_core():
    for module, imported in GRAPH.items():
        if module.startswith("relax_memory"):
            assert {name.partition(".")[0] for name in imported} <= {"relax_memory"}, module


def test_an_import_is_found_in_every_form():
    assert "relax_memory.roles" in GRAPH["relax_memory.passes"]  # from .roles import Roles
    assert "relax_memory.memory.bank" in GRAPH["relax_memory.memory.recall"]
    assert "relax_memory.policies" in GRAPH["nodes.memory"]
