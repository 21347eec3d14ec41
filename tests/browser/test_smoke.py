"""The templates in the real front end, in both renderers: make a video, stop one, make it again."""

from importlib.metadata import version

import pytest

SHORT, LONG = 33, 9573  # as long as no browser is too slow to stop it
DEMO = "Relax Forcing demo - long video on any computer"
INTO_SUBGRAPH = """() => {
    const sampler = app.graph.nodes.find(node => node.type == "RelaxForcingSampler")
    app.graph.convertToSubgraph(new Set([sampler]))
}"""
OPEN_SUBGRAPH = """() => {
    const node = app.graph.nodes.find(node => node.subgraph)
    app.canvas.openSubgraph(node.subgraph, node)
}"""
STREAM = "Relax Forcing long video stream - self forcing"


@pytest.mark.parametrize(
    ("template", "sampler", "player"),
    [
        (DEMO, "RelaxForcingSampler", "RelaxForcingDecode"),
        (STREAM, "RelaxForcingStream", "RelaxForcingStream"),
    ],
    ids=["demo", "stream"],
)
def test_a_video_plays_in_its_node_also_after_a_stopped_one(front_end, template, sampler, player):
    front_end.open(template, length=LONG)
    front_end.show(sampler)
    front_end.run()
    front_end.cancel()
    front_end.wait_for_text("chunks are saved: queue again to continue")
    if sampler == player:
        front_end.wait_for_playing_video(".partial.mp4")
    front_end.set_length(SHORT)
    front_end.show(player)
    front_end.run()
    front_end.wait_for_text("2.1 s of video in ")
    front_end.wait_for_playing_video("_.mp4")


@pytest.mark.parametrize("front_end", ["Nodes 2.0"], indirect=True)
def test_what_a_node_of_a_subgraph_said_last_stands_there_when_it_is_opened(front_end):
    front_end.open(DEMO, length=LONG)
    front_end.page.evaluate(INTO_SUBGRAPH)
    front_end.run()
    front_end.cancel()
    front_end.page.evaluate("window.ended")
    front_end.page.evaluate(OPEN_SUBGRAPH)
    front_end.show("RelaxForcingSampler")
    front_end.wait_for_text("chunks are saved: queue again to continue")


def test_the_front_end_is_the_one_that_is_installed(front_end):
    """Or another one would be tested when a newer one is put before it."""
    shown = front_end.page.evaluate("__COMFYUI_FRONTEND_VERSION__")
    assert shown == version("comfyui-frontend-package")
