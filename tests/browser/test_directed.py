"""New words of a running video come into the text of its node, wherever that lies."""

import json
import urllib.request

import pytest

STORY = "Relax Forcing demo story - long video in four shots"
SCHEDULE = """
    const inside = graph => graph.nodes.flatMap(n => [n, ...(n.subgraph ? inside(n.subgraph) : [])])
    const node = inside(app.graph).find(node => node.type == "RelaxForcingPromptSchedule")
    const text = node.widgets.find(widget => widget.name == "text")
"""
INTO_SUBGRAPH = "() => {" + SCHEDULE + "app.graph.convertToSubgraph(new Set([node]))}"


@pytest.mark.parametrize("place", ["graph", "subgraph"])
def test_new_words_come_into_the_node_unless_somebody_typed_there(front_end, server, place):
    front_end.open(STORY, length=957)
    if place == "subgraph":
        front_end.page.evaluate(INTO_SUBGRAPH)
    front_end.show("RelaxForcingSampler")
    front_end.run()
    front_end.wait_for_chunks()
    answer = direct(server, "a purple star")
    wait_for_text(front_end, answer["text"])
    assert "] a purple star" in answer["text"]
    again = direct(server, "a [green] star", transition="cut")
    wait_for_text(front_end, again["text"])

    front_end.page.evaluate("() => {" + SCHEDULE + "text.value = 'typed'}")
    direct(server, "a white star")
    front_end.cancel()
    front_end.wait_for_text("chunks are saved: queue again to continue")
    wait_for_text(front_end, "typed")


def wait_for_text(front_end, text):
    front_end.page.wait_for_function(
        "told => {" + SCHEDULE + "return text.value == told}", arg=text
    )


def direct(server, text, **asked):
    """Send words to the sampler of what is running."""
    with urllib.request.urlopen(f"{server.url}/queue") as reply:
        ((_, prompt_id, prompt, *_),) = json.load(reply)["queue_running"]
    (node_id,) = (key for key, node in prompt.items() if node["class_type"].endswith("Sampler"))
    asked |= {"prompt_id": prompt_id, "node_id": node_id, "text": text}
    request = urllib.request.Request(
        f"{server.url}/relax_forcing/direct",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)
