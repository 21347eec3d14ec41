"""Every workflow names nodes, inputs and values that exist, and its API copy is the same graph."""

import asyncio
import json
import re
from pathlib import Path

import crash_run
import execution
import folder_paths
import nodes as host_nodes
import pytest
import tiny
from conftest import ROOT
from PIL import Image

UI = sorted(ROOT.glob("workflows/*.json"))
API = sorted(ROOT.glob("workflows/api/*.json"))
NOTES = {"MarkdownNote", "Note"}  # of the front end alone
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
MUTED = 2
PICTURE_BYTES = 300_000
FOLDERS = {
    "model_name": "diffusion_models",
    "clip_name": "text_encoders",
    "vae_name": "vae",
    "folder_name": "datasets",
    "image": "input",
    "file": "input",
}

TITLE = 30
IN_USE = {  # heights seen in Nodes 2.0 once a node has said two lines and shows its preview
    "RelaxForcingLoadModel": 202,
    "RelaxForcingSampler": 690,
    "RelaxForcingSamplerSelect": 110,
    "RelaxForcingPlan": 644,
    "RelaxForcingResume": 262,
    "RelaxForcingWindowMemory": 166,
    "SamplerCustomAdvanced": 426,
    "ImageScale": 146,
    "VAEEncode": 54,
}

ui_workflows = pytest.mark.parametrize("path", UI, ids=lambda path: path.stem)
api_workflows = pytest.mark.parametrize("path", API, ids=lambda path: path.stem)


@pytest.fixture(scope="module", autouse=True)
def host():
    """The host's own extra nodes beside the pack."""
    asyncio.run(host_nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    return tiny.pack()


def load(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def real_nodes(workflow: dict) -> list[dict]:
    return [node for node in workflow["nodes"] if node["type"] not in NOTES]


def input_types(node_type: str) -> dict[str, tuple]:
    """Inputs by name, required ones first, as the front end lays out their widgets."""
    types = host_nodes.NODE_CLASS_MAPPINGS[node_type].INPUT_TYPES()
    return types.get("required", {}) | types.get("optional", {})


def is_widget(spec: tuple) -> bool:
    return isinstance(spec[0], list) or spec[0] in WIDGETS


def is_older(node_type: str) -> bool:
    """Whether this host's node takes less than the templates give: 0.24 passes it over."""
    return node_type == "CreateVideo" and "bit_depth" not in input_types(node_type)


def as_api(workflow: dict, *, muted: bool = False) -> dict:
    """What the front end sends for a workflow, without titles, and without muted nodes unless
    these are to be looked at too.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in (node for node in real_nodes(workflow) if muted or node["mode"] != MUTED):
        links = {i["name"]: sources[i["link"]] for i in node["inputs"] if i["link"] is not None}
        values = iter(node.get("widgets_values", ()))
        inputs = {}
        for name, spec in input_types(node["type"]).items():
            if is_widget(spec):
                inputs[name] = next(values)
                options = spec[1] if len(spec) > 1 else {}
                if options.get("control_after_generate"):
                    assert next(values) in ("fixed", "increment", "decrement", "randomize")
                if options.get("remote"):  # whether it refreshes itself, and the button
                    assert [next(values), next(values)] == [False, "refresh"]
                if options.get("image_upload") or options.get("video_upload"):
                    assert next(values) == "image"  # the button
        left = list(values)
        assert not left or is_older(node["type"]), f"{node['type']} has widget values left over"
        unknown = set(links) - set(input_types(node["type"]))
        assert not unknown, f"{node['type']} has no {unknown}"
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs | links}
    return prompt


def test_there_are_workflows():
    assert {path.stem for path in API} == {path.stem for path in UI}
    assert len(UI) >= 3


@ui_workflows
def test_the_api_copy_is_the_same_graph(path):
    copy = load(path.parent / "api" / path.name)
    for node in copy.values():
        node.pop("_meta")
        if node["class_type"] == "SaveVideo":  # newer hosts and their clients want it by this name
            assert node["inputs"].pop("format.codec") == node["inputs"]["codec"]
        if is_older(node["class_type"]):
            del node["inputs"]["bit_depth"]
    assert as_api(load(path)) == copy


KINDS = {"INT": int, "FLOAT": int | float, "STRING": str, "BOOLEAN": bool}


@ui_workflows
def test_every_value_of_every_node_is_one_of_its_input(path):
    """Muted nodes too, which the API copy leaves out."""
    for node in as_api(load(path), muted=True).values():
        for name, spec in input_types(node["class_type"]).items():
            value, options = node["inputs"].get(name), spec[1] if len(spec) > 1 else {}
            if not is_widget(spec) or isinstance(value, list):
                continue
            where = node["class_type"], name, value
            if kind := KINDS.get(spec[0]) if isinstance(spec[0], str) else None:
                assert isinstance(value, kind), where
                assert kind is bool or not isinstance(value, bool), where
            if spec[0] in ("INT", "FLOAT"):
                assert options.get("min", value) <= value <= options.get("max", value), where
            elif spec[0] == "COMBO" and not (options.get("remote") or name in FOLDERS):
                assert value in options["options"], where


@ui_workflows
def test_links_agree_with_the_nodes_at_both_ends(path):
    workflow = load(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"])
    for link, source, output, target, slot, kind in workflow["links"]:
        assert link in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == link
        cls = host_nodes.NODE_CLASS_MAPPINGS[nodes[source]["type"]]
        assert cls.RETURN_TYPES[output] == kind
        taken = input_types(nodes[target]["type"])[nodes[target]["inputs"][slot]["name"]][0]
        assert taken in (kind, "*")
    linked = [i["link"] for node in nodes.values() for i in node["inputs"] if i["link"] is not None]
    assert sorted(linked) == sorted(link[0] for link in workflow["links"])


@ui_workflows
def test_every_node_says_which_pack_and_version_it_is_from(path):
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)[1]
    for node in real_nodes(load(path)):
        properties = node["properties"]
        if node["type"].startswith("RelaxForcing"):
            assert (properties["cnr_id"], properties["ver"]) == ("relax-forcing", version)
        else:
            assert properties["cnr_id"] == "comfy-core"


@ui_workflows
def test_every_model_file_has_a_link_for_the_host_and_in_the_note(path):
    workflow = load(path)
    note = "".join(n["widgets_values"][0] for n in workflow["nodes"] if n["type"] == "MarkdownNote")
    for node in real_nodes(workflow):
        loads = [name for name in input_types(node["type"]) if name.endswith(("_name", "_name1"))]
        models = node["properties"].get("models", [])
        assert len(models) == len(loads), node["type"]
        for model in models:
            assert model["name"] in node["widgets_values"]
            assert model["directory"] in folder_paths.folder_names_and_paths
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].endswith("/" + model["name"])
            assert f"[{model['name']}]({model['url']}) | `{model['directory']}`" in note


@ui_workflows
def test_the_template_browser_has_a_small_picture(path):
    picture = path.with_suffix(".jpg")
    assert picture.stat().st_size < PICTURE_BYTES
    with Image.open(picture) as image:
        assert image.width >= 1000


def size_in_use(node: dict) -> tuple[float, float]:
    width, height = node["size"]
    return width, max(height, IN_USE.get(node["type"], 0))


@ui_workflows
def test_nodes_lie_apart_and_inside_their_groups(path):
    workflow = load(path)
    boxes = [(*node["pos"], *size_in_use(node)) for node in workflow["nodes"]]
    for i, (x, y, width, height) in enumerate(boxes):
        for x2, y2, width2, height2 in boxes[i + 1 :]:
            apart = x + width <= x2 or x2 + width2 <= x
            apart = apart or y + height + TITLE <= y2 or y2 + height2 + TITLE <= y
            assert apart, (x, y, x2, y2)
    groups = [group["bounding"] for group in workflow["groups"]]
    for node in real_nodes(workflow):
        (x, y), (width, height) = node["pos"], size_in_use(node)
        assert any(
            left <= x and top <= y and x + width <= left + w and y + height <= top + h
            for left, top, w, h in groups
        ), node["type"]


@api_workflows
def test_the_host_accepts_it(path, user_files):
    prompt = load(path)
    for node in prompt.values():
        for name, folder in FOLDERS.items():
            value = node["inputs"].get(name)
            if isinstance(value, str):
                file = "/metadata.json" if folder == "datasets" else ""
                target = user_files / folder / f"{value}{file}"
                target.parent.mkdir(exist_ok=True)
                target.touch()
        if "rollout" in node["inputs"]:
            node["inputs"]["rollout"] = saved_rollout(user_files / "output")
    accepted, error, outputs, node_errors = asyncio.run(
        execution.validate_prompt("test", prompt, None)
    )
    assert accepted, error
    assert not node_errors
    assert outputs


def saved_rollout(output: Path) -> str:
    """What a user chooses: the name of a small video that autosave has kept."""
    crash_run.sample(output, chunks=1)
    return input_types("RelaxForcingResume")["rollout"][1]["options"][0]


@pytest.fixture
def user_files(tmp_path, monkeypatch):
    """Empty folders in place of the host's, where files need only to be listed."""
    for folder in set(FOLDERS.values()):
        (tmp_path / folder).mkdir()
        entry = ([str(tmp_path / folder)], folder_paths.supported_pt_extensions)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder, entry)
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path


@ui_workflows
def test_the_name_is_found_by_the_words_that_users_type(path):
    """The template browser searches in names alone, and shows them as titles."""
    assert path.stem.startswith("Relax Forcing ")
    assert "long video" in path.stem


def test_each_way_to_a_video_is_found_by_its_name():
    names = [path.stem for path in UI]
    ways = ("text to long video", "image to video", "self forcing", "resume", "demo")
    ways += (
        "story in four shots",
        "prompts over time",
        "there and back again",
        "two takes",
        "auditions",
    )
    for words in (*ways, "causal forcing", "frame-wise", "2-step", "fast"):
        assert any(words in name for name in names), words


def test_the_app_of_the_demo_shows_what_a_person_sets_and_gets():
    """App mode: widgets and results by node, of the graph that the demo has."""
    demo, app = (
        load(ROOT / f"workflows/Relax Forcing {name} - long video on any computer.json")
        for name in ("demo", "demo app")
    )
    extra = app["extra"]
    assert extra["linearMode"] is True
    nodes = {node["id"]: node for node in app["nodes"]}
    for node, widget in extra["linearData"]["inputs"]:
        assert is_widget(input_types(nodes[node]["type"])[widget])
    shown = [nodes[node]["type"] for node in extra["linearData"]["outputs"]]
    assert shown == ["RelaxForcingDecode", "RelaxForcingTimeline"]
    assert as_api(app) == as_api(demo)
