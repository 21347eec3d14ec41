"""New words of a running video come into the text of its node and into the finished file."""

import json
import shutil
import time
import urllib.request

import av
import pytest
import torch

from relax_memory.saved.archive import saved_rollouts

STORY = "Relax Forcing demo story - long video in four shots"
SCHEDULE = """
    const inside = graph => graph.nodes.flatMap(n => [n, ...(n.subgraph ? inside(n.subgraph) : [])])
    const node = inside(app.graph).find(node => node.type == "RelaxForcingPromptSchedule")
    const text = node.widgets.find(widget => widget.name == "text")
"""
INTO_SUBGRAPH = "() => {" + SCHEDULE + "app.graph.convertToSubgraph(new Set([node]))}"


@pytest.mark.parametrize("place", ["graph", "subgraph"])
def test_new_words_come_into_the_node_unless_somebody_typed_there(front_end, server, place):
    front_end.open(STORY, length=9573)  # it is stopped
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
    for command, text in (("Undo", answer["text"]), ("Redo", again["text"])):
        front_end.page.evaluate(f"app.extensionManager.command.execute('Comfy.{command}')")
        wait_for_text(front_end, text)

    front_end.page.evaluate("() => {" + SCHEDULE + "text.value = 'typed'}")
    direct(server, "a white star")
    front_end.cancel()
    front_end.wait_for_text("chunks are saved: queue again to continue")
    wait_for_text(front_end, "typed")


@pytest.mark.parametrize("front_end", ["Nodes 2.0"], indirect=True)
def test_a_steered_video_that_is_dragged_in_and_queued_is_made_again(front_end, server):
    front_end.open(STORY, length=12 * 7 - 3)
    front_end.page.evaluate("() => {" + SCHEDULE + "text.value = 'a red circle'}")
    front_end.run()
    words = direct_once_begun(server, "a blue square", transition="cut")["text"]
    front_end.wait_for_end()
    output = server.folder / "output"
    video = max(output.rglob("*.mp4"), key=lambda path: path.stat().st_mtime)
    with av.open(str(video)) as file:
        prompt, workflow = (json.loads(file.metadata[tag]) for tag in ("prompt", "workflow"))
    assert words in [node["inputs"].get("text") for node in prompt.values()]
    assert any(words in node.get("widgets_values", ()) for node in workflow["nodes"])
    steered = saved_rollouts(output / "relax_forcing")[0].latents()
    shutil.rmtree(output / "relax_forcing")  # or nothing would be made

    front_end.page.evaluate("app.loadGraphData({nodes: [], links: [], version: 0.4})")
    front_end.drop(video)
    front_end.page.wait_for_function("app.graph.nodes.length > 3")
    wait_for_text(front_end, words)
    front_end.run()
    front_end.wait_for_end()
    (again,) = saved_rollouts(output / "relax_forcing")
    assert torch.equal(again.latents(), steered)


def wait_for_text(front_end, text):
    front_end.page.wait_for_function(
        "told => {" + SCHEDULE + "return text.value == told}", arg=text
    )


def direct_once_begun(server, text, **asked):
    """As soon as the server takes words; the browser may hear of chunks when they are long over."""
    end = time.monotonic() + 60
    while True:
        try:
            return direct(server, text, **asked)
        except (ValueError, OSError):  # nothing runs yet, or no chunk is begun
            assert time.monotonic() < end
            time.sleep(0.05)


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
