"""What is saved is listed, kept, forgotten and brought back: by node, over HTTP, by cleaning."""

import asyncio
import json
import logging
from types import SimpleNamespace

import aiohttp
import folder_paths
import pytest
import server
import tiny
from aiohttp import web
from aiohttp.test_utils import TestServer
from comfy.cli_args import args
from comfy_api.latest._io import Hidden, HiddenHolder
from runs import sample

from relax_memory.host.keeping import listing
from relax_memory.host.keeping.autosave import archive_folder
from relax_memory.host.keeping.bound import SETTING, most_bytes
from relax_memory.host.keeping.listing import told_bytes
from relax_memory.saved import graph
from relax_memory.saved.archive import find_rollout, saved_rollouts


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    return tmp_path


def saved_names(seeds):
    """Names of finished rollouts made with these seeds, in their order."""
    names = []
    for seed in seeds:
        sample(seed=seed, autosave=True)
        names += [r.name for r in saved_rollouts(archive_folder()) if r.name not in names]
    return names


def allow(folders, gigabytes, user="default"):
    """As the host's settings dialog writes it."""
    path = folders / "user" / user / "comfy.settings.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"Comfy.Locale": "en", SETTING: gigabytes}))


def listed(action="list", rollout=""):
    return tiny.node("RelaxForcingSaved", action=action, rollout=rollout)[0]


def test_the_node_lists_with_sizes_and_marks_and_resume_does_not_offer_what_is_forgotten():
    assert listed() == (
        "0 saved, 0 bytes. 0 bytes of that may go once it is more than 4.0 GB: set in ComfyUI's "
        "settings, Relax Forcing.\n\nnothing is saved yet"
    )
    first, second = saved_names((1, 2))
    size = told_bytes(find_rollout(archive_folder(), first).bytes)
    assert f"\n{first}  1.3 s  32x32  all 2 chunks  {size}" in listed()
    assert listed("forget", first).startswith(f"{first} is forgotten: it is off the list of")
    assert f"  {size}  forgotten" in listed("keep", second)
    assert f"\n{second}  1.3 s  32x32  all 2 chunks  {size}  kept\n" in listed()
    assert [line.split("  ")[0] for line in listing.saved_labels()] == [second]
    assert listed("bring back", first).startswith(f"{first} stays until newer ones need its room")
    assert len(listing.saved_labels()) == 2


def test_a_video_that_is_queued_again_is_no_longer_forgotten():
    (name,) = saved_names((1,))
    listed("forget", name)
    assert saved_names((1,)) == [name]
    assert find_rollout(archive_folder(), name).mark == ""


def test_takes_stand_under_their_parent_and_can_be_chosen_there():
    parent, _ = saved_names((1, 2))
    taken = tiny.node("RelaxForcingResume", rollout=parent, until_seconds=0.6)[0]
    sample(prefix=taken, seed=3, autosave=True)
    first, take, _ = listing.saved_labels()
    assert first.startswith(parent)
    assert take.startswith("└ ")
    (again,) = tiny.node("RelaxForcingResume", rollout=take)
    assert again["samples"].shape[2] == 6


@pytest.mark.parametrize("told", [None, 4, 0.0, 0.5, 100])
def test_the_room_is_the_setting_of_the_host_and_4_gb_without(folders, told):
    if told is not None:
        allow(folders, told)
    assert most_bytes() == (4 if told is None else told) * 2**30


def test_of_several_users_the_one_that_allows_most_decides(folders):
    for user, gigabytes in (("a", 2), ("b", 6), ("c", 1)):
        allow(folders, gigabytes, user)
    assert most_bytes() == 6 * 2**30


@pytest.mark.parametrize("told", ["4", -1, True, [], float("nan"), float("inf")])
def test_a_setting_that_is_no_room_is_said_and_not_used(folders, caplog, told):
    allow(folders, told)
    assert most_bytes() == 4 * 2**30
    assert "but a number of 0 or more is needed: it is not used." in caplog.text
    (folders / "user" / "default" / "comfy.settings.json").write_text("{")
    assert most_bytes() == 4 * 2**30
    assert "cannot be read" in caplog.text


def test_a_finished_video_makes_room_by_the_setting_and_leaves_what_is_kept(folders, caplog):
    caplog.set_level(logging.INFO)
    allow(folders, 0)
    first, second = saved_names((1,))[0], None
    listed("keep", first)
    second, third = (saved_names((seed,))[0] for seed in (2, 3))
    assert [r.name for r in saved_rollouts(archive_folder())] == [third, first]
    assert f"Deleted the saved rollout {archive_folder() / second}." in caplog.text


# --- the graph that made it -----------------------------------------------------------------------


@pytest.fixture
def queued(monkeypatch):
    """Let the sampler be in a graph that says so; what files carry of it."""

    def queue(said):
        prompt = {"6": {"class_type": "RelaxForcingSampler", "inputs": {}, "_meta": {"said": said}}}
        workflow = {"nodes": [{"id": 6, "title": said}]}
        hidden = {Hidden.prompt: prompt, Hidden.extra_pnginfo: {"workflow": workflow}}
        holder = HiddenHolder.from_dict(hidden | {Hidden.unique_id: "6"})
        monkeypatch.setattr(tiny.pack()["RelaxForcingSampler"], "hidden", holder)
        return {"prompt": prompt, "workflow": workflow}

    return queue


def graph_of(name):
    return find_rollout(archive_folder(), name).graph


def test_a_video_has_the_graph_that_made_it_last(queued, monkeypatch):
    first = queued("first")
    (name,) = saved_names((1,))
    assert graph_of(name) == first
    changed = find_rollout(archive_folder(), name).changed_seconds
    assert saved_names((1,)) == [name]  # makes it no younger
    assert find_rollout(archive_folder(), name).changed_seconds == changed
    second = queued("second")
    assert saved_names((1,)) == [name]  # it is no part of the key
    assert graph_of(name) == second
    queued("a shorter one, which makes less than there is")
    sample(seed=1, length=9, autosave=True)
    assert graph_of(name) == second
    longer = queued("longer")
    sample(seed=1, length=33, autosave=True)
    assert graph_of(name) == longer
    assert len(saved_rollouts(archive_folder())) == 1
    monkeypatch.setattr(args, "disable_metadata", True)
    sample(seed=1, length=33, autosave=True)
    assert graph_of(name) == {}  # as the one there need not be the one that made it
    assert graph.GRAPH not in {path.name for path in (archive_folder() / name).iterdir()}


def test_a_take_has_its_own_graph_and_leaves_that_of_its_parent(queued):
    first = queued("first")
    (parent,) = saved_names((1,))
    taken = tiny.node("RelaxForcingResume", rollout=parent, until_seconds=0.6)[0]
    second = queued("second")
    sample(prefix=taken, seed=3, autosave=True)
    (take,) = (r for r in saved_rollouts(archive_folder()) if r.name != parent)
    assert (graph_of(parent), take.graph) == (first, second)


def test_a_graph_that_cannot_be_kept_is_none_and_stops_nothing(tmp_path, monkeypatch, caplog):
    kept = {"prompt": {"1": {"is_changed": [float("nan")], "text": "ä"}}}
    graph.write_graph(tmp_path, kept)
    assert graph.read_graph(tmp_path) == {"prompt": {"1": {"is_changed": [None], "text": "ä"}}}
    deep = []
    for _ in range(10**5):
        deep = [deep]
    monkeypatch.setattr(graph, "MOST_BYTES", 100)
    for told in ({"prompt": object()}, {"prompt": deep}, {"prompt": "x" * 100}):
        graph.write_graph(tmp_path, kept)
        graph.write_graph(tmp_path, told)
        assert graph.read_graph(tmp_path) == {}
        assert caplog.text.count("is not kept") == 1
        caplog.clear()
    graph.write_graph(tmp_path, kept)
    whole = (tmp_path / graph.GRAPH).read_bytes()
    for damaged in (
        whole[:-9],
        whole.replace(b"text", b"txet"),
        b"[]",
        b'{"checksum": 1}',
        b"\xff",
    ):
        (tmp_path / graph.GRAPH).write_bytes(damaged)
        assert graph.read_graph(tmp_path) == {}


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
def ask(monkeypatch):
    """Ask the routes of the pack behind the host's rule for origins."""
    routes = web.RouteTableDef()
    monkeypatch.setattr(server.PromptServer, "instance", SimpleNamespace(routes=routes), False)
    listing.serve_saved()

    def ask(path, asked=None, **headers):
        async def over_http():
            app = web.Application(middlewares=[server.create_origin_only_middleware()])
            app.add_routes(routes)
            method = "GET" if asked is None else "POST"
            async with (
                TestServer(app) as running,
                aiohttp.ClientSession() as session,
                session.request(
                    method, running.make_url(path), json=asked, headers=headers
                ) as reply,
            ):
                text = await reply.text()
                return reply.status, json.loads(text) if text.startswith(("{", "[")) else text

        return asyncio.run(over_http())

    return ask


def test_what_is_saved_is_kept_forgotten_and_brought_back_over_http(ask):
    (name,) = saved_names((1,))
    _, (line,) = ask(listing.ALL_ROUTE)
    for path, mark in (("keep", "kept"), ("forget", "forgotten"), ("bring_back", "")):
        status, answer = ask(f"/relax_forcing/{path}", {"rollout": line})
        assert (status, answer["said"].startswith(name)) == (200, True)
        assert ask(listing.ALL_ROUTE)[1] == ["  ".join(filter(None, (line, mark)))]
        assert (ask(listing.ROUTE)[1] == [listing.NOTHING_SAVED]) == (mark == "forgotten")


def test_the_graph_of_a_video_is_given_over_http(ask, queued):
    first = queued("first")
    (name,) = saved_names((1,))
    _, (line,) = ask(listing.ALL_ROUTE)
    for told in (name, line, f"└ {line}"):
        assert ask("/relax_forcing/graph", {"rollout": told}) == (200, first)
    (archive_folder() / name / graph.GRAPH).unlink()
    status, answer = ask("/relax_forcing/graph", {"rollout": name})
    assert status == 404
    assert answer["error"].startswith(f"The workflow of {name} is not saved with it: an earlier")


@pytest.mark.parametrize("path", ["keep", "forget", "bring_back", "graph"])
def test_nothing_else_is_marked(ask, path, folders):
    (name,) = saved_names((1,))
    path = f"/relax_forcing/{path}"
    outside = folders / "outside"
    find_rollout(archive_folder(), name).folder.rename(outside)
    saved_names((1,))
    before = sorted(folders.rglob("*"))
    for rollout in ("gone", "../../outside", str(outside), "", "."):
        status, answer = ask(path, {"rollout": rollout})
        assert status == 404
        assert f'rollout is "{rollout}", but none of that name is saved' in answer["error"]
    assert ask(path, {"rollout": name}, Origin="http://example.com")[0] == 403
    assert ask(path, {"rollout": 5})[0] == 400
    assert ask(path, {"rollout": name, "sure": True})[0] == 400
    assert ask(path)[0] == 405
    assert sorted(folders.rglob("*")) == before
