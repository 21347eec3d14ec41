"""Files for the loader's tests: a small model's weights, and what its node makes of a file."""

import safetensors.torch
import tiny
import torch

WEIGHTS = tiny.state_dict(layers=2)
OTHER = tiny.state_dict(layers=2, seed=1)


def load(model_name, **inputs):
    defaults = {"weight_dtype": "default", "checkpoint_key": "auto", "shift": 5.0}
    return tiny.node("RelaxForcingLoadModel", model_name=model_name, **defaults | inputs)[0]


def prefixed(prefix, weights=WEIGHTS):
    return {prefix + name: weight for name, weight in weights.items()}


def assert_holds(model, weights=WEIGHTS):
    loaded = model.model.diffusion_model.state_dict()
    assert loaded.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(loaded[name].float(), weight), name


def saved(folder, content, name="model.pt", **options):
    """The name of a file with this content, in the host's folder."""
    if name.endswith(".safetensors"):
        safetensors.torch.save_file(content, folder / name, **options)
    else:
        torch.save(content, folder / name, **options)
    return name
