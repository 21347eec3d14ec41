"""What can be judged before anything runs is said when the workflow is queued."""

import asyncio
import json

import execution
import pytest
import tiny
from conftest import ROOT

UNITS = "write 5s for seconds or 5f for frames of the video."
STREAM = ROOT / "workflows/api/Relax Forcing long video stream - self forcing.json"
DEMO = ROOT / "workflows/api/Relax Forcing demo - long video on any computer.json"


@pytest.fixture(autouse=True)
def host():
    """The host's nodes and the pack."""
    import nodes

    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    tiny.pack()


def queue(node_type: str, **inputs) -> list[str]:
    """What the browser shows of the demo's graph with other inputs of one node."""
    workflow = json.loads(DEMO.read_text("utf-8"))
    (node,) = (n for n in workflow.values() if n["class_type"] == node_type)
    node["inputs"] |= inputs
    return told(workflow)


def told(workflow) -> list[str]:
    *_, errors = asyncio.run(execution.validate_prompt("test", workflow, None))
    return [e["details"] for node in errors.values() for e in node["errors"] if e["details"]]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"cfg": 3.0}, "cfg is 3, but no negative conditioning is connected"),
        ({"width": 0}, "width is 0, but Wan needs a multiple of 16: use 16"),
        ({"width": 100}, "width is 100, but Wan needs a multiple of 16: use 96"),
        ({"height": 1080}, "height is 1080, but Wan needs a multiple of 16"),
        ({"width": 8208}, "width is 8208: use at most 8192"),
        ({"cfg": 101.0, "negative": ["4", 0]}, "cfg is 101: use at most 100"),
    ],
)
def test_a_wrong_value_is_said_before_anything_runs(inputs, sentence):
    (said,) = set(queue("RelaxForcingSampler", **inputs))
    assert said.startswith(sentence)


@pytest.mark.parametrize("inputs", [{}, {"width": 64, "cfg": 1.0}])
def test_right_values_pass(inputs):
    assert queue("RelaxForcingSampler", **inputs) == []


@pytest.mark.parametrize("node", ["RelaxForcingSampler", "RelaxForcingStream", "RelaxForcingPlan"])
def test_what_another_node_gives_is_judged_later(node):
    validate = tiny.pack()[node].validate_inputs
    assert validate(width=None, height=None)
    with pytest.raises(ValueError, match="width is 100"):
        validate(width=100, height=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[0s] a\n[5 cut] b", ["text, line 2, column 2: 5 has no unit: " + UNITS]),
        ("[0s] a\n[5s cut] b", []),
        (["text", 0], []),
    ],
)
def test_a_mistake_in_a_schedule_is_said_before_anything_runs(text, said):
    workflow = json.loads(DEMO.read_text("utf-8"))
    (node,) = (n for n in workflow.values() if n["class_type"] == "CLIPTextEncode")
    node["class_type"] = "RelaxForcingPromptSchedule"
    node["inputs"] |= {"text": text, "transition": "keep", "blend_seconds": 1.0}
    workflow["text"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "[5] a"}}
    assert sorted(set(told(workflow))) == said
