"""The way of one chunk through the code: what is entered while a steady chunk of a video is made.

A sampler with its defaults makes a video of the smallest model, and the calls of one chunk are
followed, from the end of one clean pass to that of the next; what stands above them, up to the
node, counts too. For each file: its lines, those of the functions that are entered, and these. A
stay is a file on the way of tensors: functions that are given one, each where it is entered first.
Give the folder of another checkout to follow a chunk there. Last line: JSON.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parent.parent
CHUNKS, STEADY, STEPS = 20, 17, 4  # the history has candidates by then
PASSES = STEPS + 1
Function = tuple[str, int, str]  # file, first line, name


class Way:
    """Functions of the pack in `tree`, in the order in which they are entered first."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.entered: dict[Function, int] = {}
        self.with_tensors: dict[Function, None] = {}
        self._functions: dict[CodeType, Function | None] = {}

    def begin(self, frame: FrameType | None) -> None:
        """Follow all that is called from now on, below these frames."""
        above = []
        while frame is not None:
            above.append(self._function(frame.f_code))
            frame = frame.f_back
        self.entered.update({function: 0 for function in reversed(above) if function})
        sys.setprofile(self._called)

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        function = self._function(frame.f_code) if event == "call" else None
        if function:
            self.entered[function] = self.entered.get(function, 0) + 1
            if function not in self.with_tensors and _has_tensor(_arguments(frame)):
                self.with_tensors[function] = None

    def _function(self, code: CodeType) -> Function | None:
        if code not in self._functions:
            path = Path(code.co_filename)
            ours = path.is_relative_to(self.tree) and code.co_name[0] != "<"
            file = path.relative_to(self.tree).as_posix() if ours else ""
            counts = file.startswith(("relax_memory/", "nodes/"))
            self._functions[code] = (file, code.co_firstlineno, code.co_name) if counts else None
        return self._functions[code]

    @property
    def files(self) -> dict[str, list[Function]]:
        """Functions by file."""
        files: dict[str, list[Function]] = {}
        for function in self.entered:
            files.setdefault(function[0], []).append(function)
        return files

    def lines(self, functions: list[Function]) -> int:
        """Lines of functions of one file, each line once."""
        tree = ast.parse((self.tree / functions[0][0]).read_text("utf-8"))
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                first = min(each.lineno for each in (node, *node.decorator_list))
                if any(line == first for _, line, _ in functions):
                    found |= {*range(first, (node.end_lineno or first) + 1)}
        return len(found)


def _arguments(frame: FrameType) -> list:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4)
    return [frame.f_locals.get(name) for name in code.co_varnames[:count]]


def _has_tensor(values: object) -> bool:
    import torch

    if isinstance(values, list | tuple):
        return any(map(_has_tensor, values))
    return isinstance(getattr(values, "latents", values), torch.Tensor)  # or a finished chunk


def follow(tree: Path) -> Way:
    """The way of a steady chunk through the pack that `tiny` loads, which lies in `tree`."""
    import tiny

    way, calls = Way(tree), [0]

    def watch(apply_model, arguments):
        answer = apply_model(arguments["input"], arguments["timestep"], **arguments["c"])
        calls[0] += 1
        if calls[0] == PASSES * STEADY:
            way.begin(sys._getframe())
        elif calls[0] == PASSES * (STEADY + 1):
            sys.setprofile(None)
        return answer

    model = tiny.model().clone()
    model.set_model_unet_function_wrapper(watch)
    size = {"width": 32, "height": 32, "length": 12 * CHUNKS - 3}
    inputs = {"seed": 3, "steps": STEPS, "cfg": 1.0, "frames_per_chunk": 3, "batch_size": 1}
    inputs |= size | {"autosave": False, "positive": tiny.conditioning(1)}
    tiny.node("RelaxForcingSampler", model=model, **inputs)
    return way


def report(way: Way) -> dict:
    """The way as figures, and a line for each file."""
    rows = []
    for file, functions in way.files.items():
        names = ", ".join(dict.fromkeys(name for _, _, name in functions))
        lines = len((way.tree / file).read_text("utf-8").splitlines())
        rows.append([file, lines, way.lines(functions), names])
    stays = [file for file, _ in groupby(file for file, _, _ in way.with_tensors)]
    figures = {
        "files": len(rows),
        "lines": sum(row[1] for row in rows),
        "lines_of_functions": sum(row[2] for row in rows),
        "stays": len(stays),
        "returns": len(stays) - len(set(stays)),
    }
    return {"figures": figures, "files": rows, "stays": stays}


def main() -> None:
    os.environ.setdefault("COMFYUI_PATH", str(ROOT / ".comfyui"))  # one host for all versions
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tree", nargs="?", type=Path, default=ROOT, help="folder of a version")
    parser.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    tree = options.tree.resolve()
    if options.follow:
        print(json.dumps(report(follow(tree))))
        return
    path = [str(tree), str(tree / "tests"), str(ROOT / "benchmarks")]
    program = f"import sys; sys.path[:0] = {path!r}; sys.argv = ['', {str(tree)!r}, '--follow']\n"
    program += f"import conftest, runpy; runpy.run_path({__file__!r}, run_name='__main__')"
    out = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=tree, stdout=subprocess.PIPE, text=True
    ).stdout
    found = json.loads(out.splitlines()[-1])
    for file, lines, entered, names in found["files"]:
        print(f"{file:40} {lines:4} {entered:4}  {names}")
    print("The way of tensors: " + " > ".join(found["stays"]))
    print(json.dumps({"benchmark": "way", "figures": found["figures"]}))


if __name__ == "__main__":
    main()
