"""What is saved is kept, forgotten and brought back by its node, whose list follows, and opened."""

import shutil

import pytest
from conftest import ROOT

from relax_memory.saved.archive import saved_rollouts
from relax_memory.saved.graph import write_graph

STORY = "Relax Forcing demo story - long video in four shots"

ADD = """async () => {
    await app.loadGraphData({nodes: [], links: [], version: 0.4})
    app.graph.add(LiteGraph.createNode("RelaxForcingSaved"))
}"""
ASK = """action => {
    app.graph.nodes[0].widgets.find(widget => widget.name == "action").value = action
}"""
PROMPT = """async () => {  // without what the front end knows of a node's pack since it was loaded
    const {output} = await app.graphToPrompt()
    for (const node of Object.values(output)) node._meta = node._meta.title
    return output
}"""
CHOSEN = """name => app.graph.nodes[0].widgets.find(widget => widget.name == "rollout")
    .value.startsWith(name)"""
LISTED = """told => app.graph.nodes[0].widgets.find(widget => widget.name == "rollout")
    .options.values[0].endsWith(told)"""


@pytest.mark.parametrize("front_end", ["Nodes 2.0"], indirect=True)
def test_a_saved_video_is_kept_forgotten_and_brought_back(front_end, server):
    (old,) = (ROOT / "tests" / "host" / "data" / "rollout_0.1").iterdir()
    folder = server.folder / "output" / "relax_forcing"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(old, folder / old.name)
    front_end.page.evaluate(ADD)
    front_end.show("RelaxForcingSaved")
    for action, said, told in (
        ("list", "1 saved, ", " kB"),
        ("keep", f"{old.name} is kept until you bring it back or forget it", "kept"),
        ("forget", f"{old.name} is forgotten: it is off the list", "forgotten"),
        ("bring back", f"{old.name} stays until", " kB"),
    ):
        front_end.page.evaluate(ASK, action)
        front_end.run()
        front_end.wait_for_end()
        front_end.wait_for_text(said)
        front_end.page.get_by_role("button", name="refresh", exact=True).click()
        front_end.page.wait_for_function(LISTED, arg=told)
        marks = {path.name for path in (folder / old.name).iterdir()} & {"kept", "forgotten"}
        assert marks == {told} & {"kept", "forgotten"}


@pytest.mark.parametrize("front_end", ["Nodes 2.0"], indirect=True)
def test_the_workflow_of_a_saved_video_is_opened_and_is_the_one_that_made_it(front_end, server):
    folder = server.folder / "output" / "relax_forcing"
    shutil.rmtree(folder, ignore_errors=True)
    front_end.open(STORY, length=21)
    made = front_end.page.evaluate(PROMPT)
    front_end.run()
    front_end.wait_for_end()
    (saved,) = saved_rollouts(folder)
    whole, alone = saved.graph, {"prompt": saved.graph["prompt"]}
    for graph, opened in ((whole, made), (alone, made), ({}, None)):
        write_graph(saved.folder, graph)
        front_end.page.evaluate(ADD)
        front_end.show("RelaxForcingSaved")
        asked = front_end.page.evaluate(PROMPT)
        (node,) = asked.values()
        assert "open its workflow" not in node["inputs"]
        front_end.page.get_by_role("button", name="refresh", exact=True).click()
        front_end.page.wait_for_function(CHOSEN, arg=saved.name)
        button = front_end.page.get_by_role("button", name="open its workflow", exact=True)
        button.click()
        if opened:
            front_end.page.wait_for_function("app.graph.nodes.length > 3")
            assert front_end.page.evaluate(PROMPT) == opened
        else:
            front_end.wait_for_text(f"The workflow of {saved.name} is not saved with it")
    front_end.page.route("**/relax_forcing/graph", lambda route: route.abort())
    button.click()
    front_end.wait_for_text("The workflow was not opened: ")
    front_end.page.unroute("**/relax_forcing/graph")
