"""Templates in the front end, which alone knows which of a node's values belongs to which input."""

import json

import pytest
from conftest import ROOT

PROMPT = "async workflow => { await app.loadGraphData(workflow); return app.graphToPrompt() }"
NAMES_OF_ONE = {"format.codec": "codec"}  # newer front ends and the host's own nodes


@pytest.mark.parametrize("front_end", ["classic"], indirect=True)
def test_the_front_end_reads_every_value_where_the_api_copy_has_it(front_end):
    for path in sorted(ROOT.glob("workflows/*.json")):
        copy = json.loads((path.parent / "api" / path.name).read_text("utf-8"))
        read = front_end.page.evaluate(PROMPT, json.loads(path.read_text("utf-8")))["output"]
        assert read.keys() == copy.keys(), path.stem
        for key, node in copy.items():
            told = read[key]["inputs"]
            for name, value in node["inputs"].items():
                if name != "rollout":  # one that is not there becomes the newest that is
                    assert told[NAMES_OF_ONE.get(name, name)] == value, (path.stem, key, name)
