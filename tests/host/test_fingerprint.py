"""A fingerprint is the same wherever the same is computed, and another where anything differs."""

import functools
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass

import comfy.model_management
import comfy.sd
import pytest
import tiny
import torch
from comfy.quant_ops import QuantizedTensor
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from conftest import ROOT

from relax_memory.host.keeping.fingerprint import fingerprint, model_fingerprints
from relax_memory.host.model.attention import with_memory
from relax_memory.policies import RelaxedMemory

PATCHES = "LoRAs and model patches"


def fresh(change=lambda weights: None):
    """A model with memory, its weights loaded anew after `change`."""
    weights = tiny.state_dict()
    change(weights)
    options = {"dtype": torch.float32}
    model = comfy.sd.load_diffusion_model_state_dict(weights, model_options=options)
    return with_memory(model, RelaxedMemory())


@functools.cache
def model():
    return fresh()


def with_lora(strength=1.0):
    lora = {"diffusion_model.blocks.0.ffn.0.diff": torch.full((512, 256), 0.25)}
    return comfy.sd.load_lora_for_models(model(), None, lora, strength, 0)[0]


def test_the_same_weights_loaded_again_are_the_same():
    assert model_fingerprints(fresh()) == model_fingerprints(model())


def test_what_dynamic_vram_casts_when_it_loads_is_the_same_before_and_after():
    """As on a GPU: weights keep the file's dtype, and the host casts some for good."""
    options = {"dtype": torch.bfloat16}
    model = comfy.sd.load_diffusion_model_state_dict(tiny.state_dict(), model_options=options)
    model.model.load_model_weights(tiny.state_dict(), "", assign=True)
    model = with_memory(model, RelaxedMemory())
    modulation = model.model.diffusion_model.head.modulation
    before, dtype = model_fingerprints(model), modulation.dtype
    model._load_list(for_dynamic=True, default_device=torch.device("cpu"))
    assert (dtype, modulation.dtype) == (torch.float32, torch.bfloat16)
    assert model_fingerprints(model) == before


@pytest.mark.parametrize("name", sorted(tiny.state_dict(layers=1)))
def test_every_weight_counts(name):
    other = model_fingerprints(fresh(lambda weights: weights[name].mul_(1.0001)))
    changed = [part for part, made in model_fingerprints(model()).items() if other[part] != made]
    assert changed == ["model"]


def test_another_process_agrees():
    program = (
        "import conftest, tiny, sys; from relax_memory.host.keeping import fingerprint as f;"
        "sys.path.append('host'); import test_fingerprint as t;"
        "print('\\n', *f.model_fingerprints(t.with_lora()).values(), f.fingerprint(t.VALUE))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True, check=True
    )
    here = [*model_fingerprints(with_lora()).values(), fingerprint(VALUE)]
    assert done.stdout.split()[-4:] == here


def test_a_lora_that_the_host_has_applied_is_still_a_patch():
    plain, patched = model(), with_lora()
    before = [model_fingerprints(plain), model_fingerprints(patched)]
    weight = plain.model.diffusion_model.blocks[0].ffn[0].weight.clone()
    comfy.model_management.load_models_gpu([patched], force_full_load=True)
    try:
        assert not torch.equal(plain.model.diffusion_model.blocks[0].ffn[0].weight, weight)
        assert [model_fingerprints(plain), model_fingerprints(patched)] == before
    finally:
        patched.detach()
    differ = [part for part, made in before[0].items() if before[1][part] != made]
    assert differ == [PATCHES]


def wrapped(strength):
    base = model().clone()

    def wrapper(apply_model, args):
        return apply_model(args["input"], args["timestep"], **args["c"]) * strength

    base.set_model_unet_function_wrapper(wrapper)
    return base


def replaced(value):
    """A patch that is an object."""

    @dataclass
    class Patch:
        value: object

        def __call__(self, *args, **kwargs):
            raise NotImplementedError

    base = model().clone()
    base.set_model_attn1_output_patch(Patch(value))
    return base


def shifted(shift):
    return ModelSamplingSD3().patch(model(), shift)[0]


def capturing_itself(strength):
    """A patch that holds the model it patches, as many do."""
    base = model().clone()
    base.set_model_unet_function_wrapper(lambda apply, args, base=base, x=strength: None)
    return base


def module(x, wrap=lambda layer: layer):
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, x)
    return replaced(wrap(layer))


def compiled(x):
    return module(x, torch.compile)


MAKERS = {
    "LoRA": with_lora,
    "closure": wrapped,
    "shift": shifted,
    "closure that holds the model": capturing_itself,
    "object with a text": lambda x: replaced(str(x)),
    "object with a tensor": lambda x: replaced(torch.tensor(x)),
    "object with settings": lambda x: replaced([{x: x}]),
    "object with a module": module,
    "object with a compiled module": compiled,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_what_a_patch_holds_counts(make):
    one, same, other = (model_fingerprints(make(x))[PATCHES] for x in (0.5, 0.5, 0.75))
    assert one == same != other
    assert one != model_fingerprints(model())[PATCHES]


def test_how_a_model_is_compiled_does_not_count():
    one, other = model().clone(), model().clone()
    set_torch_compile_wrapper(one, backend="eager")
    set_torch_compile_wrapper(other, backend="aot_eager")
    assert model_fingerprints(one) == model_fingerprints(other)


def quantised(scale):
    weights = torch.linspace(-1, 1, 64).reshape(8, 8)
    return QuantizedTensor.from_float(weights, "TensorCoreFP8Layout", scale=torch.tensor(scale))


def test_quantised_weights_count_with_their_scales():
    one, same, other = (fingerprint(quantised(scale)) for scale in (0.5, 0.5, 0.25))
    assert one == same != other


VALUE = {
    "embeddings": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "scalar": torch.tensor(2),
    "names": {"b", "a", "c"},
    "nested": [(1, 2.0, None, True), {"x": "y"}, float("nan")],
    "device": torch.device("cpu"),
    "function": functools.partial(max, 3, key=len),
}


@pytest.mark.parametrize(
    "change",
    [
        {"embeddings": torch.arange(6.0).reshape(3, 2)},
        {"embeddings": torch.arange(6.0).reshape(2, 3).double()},
        {"embeddings": torch.arange(6.0).reshape(2, 3).T.contiguous().T + 1e-6},
        {"half": torch.ones(4, dtype=torch.bfloat16)},
        {"scalar": 2},
        {"names": {"b", "a"}},
        {"nested": [(1, 2.0, None, 1), {"x": "y"}, float("nan")]},
        {"function": functools.partial(max, 3, key=str)},
        {"function": functools.partial(min, 3, key=len)},
        {"more": None},
    ],
)
def test_any_value_counts(change):
    assert fingerprint(VALUE | change) != fingerprint(VALUE) == fingerprint(dict(VALUE))


def test_bytes_count_and_not_how_they_lie():
    matrix = torch.arange(6.0).reshape(2, 3)
    assert fingerprint(matrix) == fingerprint(matrix.T.contiguous().T)


def test_every_token_of_a_prompt_counts():
    prompt = tiny.conditioning(1, tokens=512)
    before = fingerprint(prompt)
    prompt[0][0][0, 400, 77] += 1
    assert fingerprint(prompt) != before


def test_cycles_end():
    cycle = [1]
    cycle.append(cycle)
    assert fingerprint(cycle) == fingerprint(cycle)


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "value",
    [threading.Lock(), object(), iter([1]), torch.Generator(), torch.empty(1, device="meta")],
)
def test_what_cannot_be_compared_is_like_nothing_else_and_says_so(value, caplog):
    caplog.set_level(logging.WARNING)
    assert fingerprint([value]) != fingerprint([value])
    assert "in the model or conditioning cannot be compared" in caplog.text


def test_what_cannot_even_be_looked_into_stops_nothing():
    assert fingerprint([Hostile()]) != fingerprint([Hostile()])


def test_what_is_too_deep_to_compare_is_like_nothing_else():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    assert fingerprint(deep) != fingerprint(deep)
