"""What is saved is kept, forgotten and brought back by its node, whose list follows."""

import shutil

import pytest
from conftest import ROOT

ADD = """async () => {
    await app.loadGraphData({nodes: [], links: [], version: 0.4})
    app.graph.add(LiteGraph.createNode("RelaxForcingSaved"))
}"""
ASK = """action => {
    app.graph.nodes[0].widgets.find(widget => widget.name == "action").value = action
}"""
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
