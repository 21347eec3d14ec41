"""Models are found under whatever name they are kept, and what else a file holds does no harm."""

import argparse
import datetime
import pathlib

import numpy
import pytest
import torch
from loading import OTHER, WEIGHTS, assert_holds, load, prefixed, saved


@pytest.mark.parametrize(
    "prefix",
    ["net.", "ema.", "model.net.", "generator.model.net.", "pipe.dit.", "_orig_mod.student.", "a."],
)
def test_a_model_under_any_one_prefix_is_found(model_folder, prefix):
    assert_holds(load(saved(model_folder, prefixed(prefix), "model.safetensors")))


def test_a_model_in_any_one_mapping_is_found(model_folder, caplog):
    content = {"net": WEIGHTS, "optimizer": {"state": torch.zeros(3)}, "epoch": 4}
    assert_holds(load(saved(model_folder, content)))
    assert "optimizer.state" in caplog.text


def test_of_several_models_under_unknown_names_none_is_guessed(model_folder):
    name = saved(model_folder, {"net": WEIGHTS, "teacher": OTHER})
    with pytest.raises(ValueError, match=r"holds 2 models \(net, teacher\).*checkpoint_key to net"):
        load(name)
    assert_holds(load(name, checkpoint_key="net"))
    name = saved(model_folder, {"student": WEIGHTS, "teacher": OTHER})
    with pytest.raises(ValueError, match=r"\(student, teacher\).*use a file with one model"):
        load(name)


def test_the_model_itself_comes_before_a_copy_kept_beside_it(model_folder):
    assert_holds(load(saved(model_folder, WEIGHTS | prefixed("ema.", OTHER))))


@pytest.mark.parametrize("prefix", ["net.", "ema."])
def test_what_a_prefixed_model_lacks_is_named(model_folder, prefix):
    weights = {k: w for k, w in WEIGHTS.items() if k != "head.head.bias"}
    with pytest.raises(ValueError, match=r"lacks weights .*head\.head\.bias"):
        load(saved(model_folder, prefixed(prefix, weights)))


@pytest.mark.parametrize("prefix", ["base_model.model.", "", "generator.base_model.model."])
def test_a_lora_that_was_not_merged_is_named(model_folder, prefix):
    weights = prefixed(prefix)
    layer = f"{prefix}blocks.0.self_attn.q"
    weights[f"{layer}.base_layer.weight"] = weights.pop(f"{layer}.weight")
    weights[f"{layer}.lora_A.default.weight"] = torch.zeros(4, 256)
    weights[f"{layer}.lora_B.default.weight"] = torch.zeros(256, 4)
    with pytest.raises(ValueError, match="never merged .*base_layer.*merge_and_unload"):
        load(saved(model_folder, weights))


@pytest.mark.parametrize("zipped", [True, False])
def test_values_beside_the_weights_are_left_unread(model_folder, zipped):
    content = {
        "generator": WEIGHTS,
        "lr": numpy.float32(1e-5),
        "loss": numpy.float64(0.5),
        "losses": numpy.ones((2, 3)),
        "names": numpy.array(["a", {}], dtype=object),
        "none": numpy.zeros((0, 2)),
        "random": numpy.random.get_state(),  # noqa: NPY002 what training saves
        "args": argparse.Namespace(lr=1e-5),
        "folder": pathlib.Path("runs"),
        "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "version": torch.torch_version.TorchVersion("2.6"),
    }
    allowed = torch.serialization.get_safe_globals()
    name = saved(model_folder, content, _use_new_zipfile_serialization=zipped)
    assert_holds(load(name))
    assert torch.serialization.get_safe_globals() == allowed


@pytest.mark.parametrize("order", ["C", "F"])
def test_weights_that_are_arrays_of_numpy_are_weights(model_folder, order):
    arrays = {name: numpy.array(weight.numpy(), order=order) for name, weight in WEIGHTS.items()}
    assert_holds(load(saved(model_folder, {"generator_ema": arrays})))


class Settings:
    """An object of a class that nobody else has."""


def test_objects_of_other_classes_are_called_objects(model_folder):
    name = saved(model_folder, {"generator": WEIGHTS, "config": Settings()})
    with pytest.raises(
        ValueError, match=r"Python objects .*\.Settings\), and they were not opened"
    ):
        load(name)
