"""The pack in the host: it loads, and its nodes are what shared workflows rely on."""

import nodes as host_nodes
import pytest
import tiny
from conftest import ROOT

SAMPLING = {
    "model": None,
    "positive": None,
    "width": 832,
    "height": 480,
    "length": 957,
    "seed": 0,
    "steps": 0,
    "cfg": 1.0,
    "frames_per_chunk": 0,
    "batch_size": 1,
    "autosave": True,
    "negative?": None,
    "prefix?": None,
    "sigmas?": None,
}
LAST = {"sigmas_first?": None, "clean_pass?": "as the checkpoint was made"}
VIDEO = {"fps": 16.0, "filename_prefix": "video/RelaxForcing"}
CHOICE = object()  # the files that are there

# The node contract: inputs in order with their defaults (None: connected), and outputs.
CONTRACT = {
    "RelaxForcingLoadModel": (
        {
            "model_name": CHOICE,
            "weight_dtype": "default",
            "checkpoint_key": "auto",
            "shift": 5.0,
            "family?": "auto",
        },
        ["MODEL"],
    ),
    "RelaxForcingLoadLora": ({"model": None, "lora_name": CHOICE, "strength": 1.0}, ["MODEL"]),
    "RelaxForcingMemory": (
        {
            "model": None,
            "sink_frames": 2,
            "history_frames": 1,
            "tail_frames": 1,
            "history_candidates": 4,
            "redundancy_weight": 2.0,
            "reservoir_frames": 120,
            "rope": "hybrid",
            "reservoir_device": "auto",
            "reservoir_dtype": "model",
        },
        ["MODEL"],
    ),
    "RelaxForcingWindowMemory": (
        {
            "model": None,
            "sink_frames": 0,
            "window_frames": 18,
            "rope": "hybrid",
            "as_trained?": False,
        },
        ["MODEL"],
    ),
    "RelaxForcingSampler": (SAMPLING | LAST, ["LATENT", "RELAX_TRACE"]),
    "RelaxForcingSamplerSelect": (
        {"frames_per_chunk": 0} | LAST,
        ["SAMPLER"],
    ),
    "RelaxForcingStream": (
        SAMPLING | {"vae": None} | VIDEO | LAST,
        ["VIDEO", "LATENT", "RELAX_TRACE"],
    ),
    "RelaxForcingDecode": ({"samples": None, "vae": None} | VIDEO, ["VIDEO"]),
    "RelaxForcingResume": (
        {"rollout": CHOICE, "until_seconds?": 0.0, "sample?": 0},
        ["LATENT"],
    ),
    "RelaxForcingContactSheet": ({"samples": None, "vae": None}, ["IMAGE"]),
    "RelaxForcingSaved": ({"action": "list", "rollout": CHOICE}, ["STRING"]),
    "RelaxForcingPromptSchedule": (
        {"clip": None, "text": "", "transition": "keep", "blend_seconds": 1.0},
        ["CONDITIONING"],
    ),
    "RelaxForcingShot": (
        {
            "conditioning": None,
            "start_seconds": 0.0,
            "transition": "keep",
            "blend_seconds": 1.0,
            "scene?": "",
            "remember_seconds?": -1.0,
            "before?": None,
        },
        ["CONDITIONING"],
    ),
    "RelaxForcingPlan": (
        {
            "model": None,
            "width": 832,
            "height": 480,
            "length": 957,
            "frames_per_chunk": 0,
            "batch_size": 1,
            "steps?": 0,
            "clean_pass?": LAST["clean_pass?"],
            "from_sampler?": False,
            "positive?": None,
        },
        ["STRING", "IMAGE"],
    ),
    "RelaxForcingTimeline": ({"trace": None}, ["IMAGE"]),
    "RelaxForcingDemoModels": ({}, ["MODEL", "CLIP", "VAE"]),
}


def schemas():
    return {name: cls.GET_SCHEMA() for name, cls in tiny.pack().items()}


def test_the_host_loads_the_pack_with_the_nodes_of_the_contract():
    assert set(tiny.pack()) == set(CONTRACT)


def test_help_pages_and_what_is_named_here_come_to_the_browser():
    tiny.pack()
    assert host_nodes.EXTENSION_WEB_DIRS[ROOT.name] == str(ROOT / "web")
    scripts = {path.stem for path in ROOT.glob("web/**/*.js")}
    assert scripts == {"directed", "last_words", "nodes", "saved", "settings"}


@pytest.mark.parametrize("node_id", CONTRACT)
def test_inputs_and_outputs_are_those_of_the_contract(node_id):
    schema = schemas()[node_id]
    inputs, outputs = CONTRACT[node_id]
    assert [entry.id + "?" * entry.optional for entry in schema.inputs] == list(inputs)
    for entry, (name, default) in zip(schema.inputs, inputs.items(), strict=True):
        if default is not CHOICE:
            assert default_of(entry) == default, name
    assert [entry.io_type for entry in schema.outputs] == outputs
    assert schema.category == "Relax Forcing"


def default_of(entry):
    default = getattr(entry, "default", None)
    if default is None and entry.io_type == "COMBO":
        return entry.options[0]
    return default


def test_every_input_and_output_says_what_it_does():
    for node_id, schema in schemas().items():
        assert schema.description, node_id
        for entry in (*schema.inputs, *schema.outputs):
            assert entry.tooltip, (node_id, entry.id)
            assert entry.tooltip.endswith("."), (node_id, entry.id)


def test_every_node_has_a_help_page_that_explains_every_widget():
    for node_id, schema in schemas().items():
        page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text("utf-8")
        for entry in schema.inputs:
            assert f"**{entry.id}**" in page, (node_id, entry.id)
