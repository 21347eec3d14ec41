"""Every committed result says what it was measured on, in a form that shows what changed."""

import json
import math

import pytest
from conftest import ROOT

from benchmarks.form import one_line_a_figure

RESULTS = sorted(ROOT.glob("benchmarks/results/*.json"))
GROUND = {"benchmark", "device", "torch", "host", "attention", "commit", "shape", "figures"}


def numbers(value) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_what_it_was_measured_on(path):
    result = json.loads(path.read_text("utf-8"))
    assert result.keys() - {"date"} == GROUND
    assert path.stem.startswith(f"{result['benchmark']}-")
    assert result["commit"] and "dirty" not in result["commit"], (
        "a result of an unclean tree cannot be made again"
    )
    assert {"width", "height"} <= result["shape"].keys()
    assert numbers(result["figures"])
    assert all(map(math.isfinite, numbers(result["figures"])))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_figure_is_a_line(path):
    text = path.read_text("utf-8")
    assert text == one_line_a_figure(json.loads(text)) + "\n"


def test_a_list_is_one_line_and_an_object_one_for_each_entry():
    figures = {"a b": {"seconds": [[1, 2.5], [3, None]], "none": {}}, "c": "d"}
    text = one_line_a_figure(figures)
    assert json.loads(text) == figures
    assert text.splitlines() == [
        "{",
        ' "a b": {',
        '  "seconds": [[1, 2.5], [3, null]],',
        '  "none": {}',
        " },",
        ' "c": "d"',
        "}",
    ]
