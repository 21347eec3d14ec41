"""A fingerprint is the same wherever the same is computed, and another where anything differs."""

import collections
import fractions
import functools
import importlib.util
import inspect
import logging
import os
import subprocess
import sys
import threading
import types
import unittest.mock
from dataclasses import dataclass
from pathlib import Path

import comfy.hooks
import comfy.ldm.modules.attention
import comfy.ldm.wan.model
import comfy.model_management
import comfy.ops
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.sd
import comfy.weight_adapter.bypass
import pytest
import tiny
import torch
from comfy.quant_ops import QuantizedTensor
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from conftest import ROOT

from relax_memory.host.keeping.digest import Digest, Weights
from relax_memory.host.keeping.fingerprint import (
    fingerprint,
    host_fingerprint,
    model_fingerprints,
)
from relax_memory.host.model.attention import with_memory
from relax_memory.policies import RelaxedMemory

PATCHES = "LoRAs and model patches"


def bare(change=lambda weights: None):
    """A model without memory, its weights loaded anew after `change`."""
    weights = tiny.state_dict()
    change(weights)
    options = {"dtype": torch.float32}
    return comfy.sd.load_diffusion_model_state_dict(weights, model_options=options)


def fresh(change=lambda weights: None):
    return with_memory(bare(change), RelaxedMemory())


without_memory = functools.cache(bare)


@functools.cache
def model():
    return with_memory(without_memory(), RelaxedMemory())


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


def attention_override(act):
    base = model().clone()
    base.model_options["transformer_options"]["optimized_attention_override"] = act
    return base


def named_alike(x):
    """Two functions of one name with nothing in them but their code, as branches define them."""
    if x == 0.5:

        def attend(attention, *args, **kwargs):
            return attention(*args, **kwargs) * 0.5
    else:

        def attend(attention, *args, **kwargs):
            return attention(*args, **kwargs)

    return attention_override(attend)


def with_small_lora(x):
    """One element differs, of a tensor that is larger than what is sampled of big ones."""
    change = torch.zeros(256, 256)
    change[100, 100] = x
    lora = {"diffusion_model.blocks.0.self_attn.q.diff": change}
    return comfy.sd.load_lora_for_models(model(), None, lora, 1.0, 0)[0]


def with_mask(x):
    """One element differs, of a tensor as large as a long video's mask."""
    mask = torch.zeros(240, 60, 104)
    mask[100, 30, 50] = x
    return attention_override(functools.partial(max, mask))


def with_callback(x):
    base = model().clone()
    base.add_callback(comfy.patcher_extension.CallbacksMP.ON_PRE_RUN, lambda model, x=x: None)
    return base


def with_attachment(x):
    base = model().clone()
    base.set_attachments("strength", x)
    return base


def with_transformer_option(x):
    base = model().clone()
    base.model_options["transformer_options"]["strength"] = x
    return base


def with_rope(x):
    base = model().clone()
    base.set_model_rope_options(1.0, 0.0, 1.0, 0.0, x, 0.0)
    return base


def attention_before_memory(x):
    """Another node on a block's attention, as a function put into the place of the method."""
    base = without_memory().clone()
    name = "diffusion_model.blocks.0.self_attn.forward"
    base.add_object_patch(name, lambda *args, x=x, **kwargs: None)
    return with_memory(base, RelaxedMemory())


def method_before_memory(x):
    """The same as a method of the block's attention, as many nodes make it."""
    base = without_memory().clone()
    attention = base.model.diffusion_model.blocks[0].self_attn
    method = types.MethodType(lambda self, *args, x=x, **kwargs: None, attention)
    base.add_object_patch("diffusion_model.blocks.0.self_attn.forward", method)
    return with_memory(base, RelaxedMemory())


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


class UnderSlots(Slotted):
    """Has a `__dict__` beside what it holds."""


class Deque(collections.deque):
    """Has a `__dict__`, and nothing in it."""


def class_made_by_a_function(x):
    class Patch:
        def __call__(self, attention, *args, **kwargs):
            return attention(*args, **kwargs) * x

    return Patch()


def class_made_of_a_name(x):
    return type("Patch", (), {"strength": x})()


def settings_of_a_class(x):
    Settings.strength = x
    return Settings.act


class Settings:
    strength = 1.0

    @classmethod
    def act(cls, attention, *args):
        return attention(*args) * cls.strength


Settings.__module__ = "/home/a/ComfyUI/custom_nodes/Pack.patches"
strength = 1.0


def reading_a_global(x):
    global strength
    strength = x

    def act(attention, *args):
        return attention(*args) * strength

    return act


def made_of_text(x):
    code = compile(f"def act(attention, *args): return attention(*args) * {x}", "text", "exec")
    return types.FunctionType(code.co_consts[0], {})


def with_method_of_another_layer(x):
    base = model().clone()
    other = base.model.diffusion_model.blocks[0 if x == 0.5 else 2].ffn
    base.add_object_patch("diffusion_model.blocks.1.ffn.forward", other.forward)
    return base


OBJECTS = {
    "slots": Slotted,
    "slots of a base class": UnderSlots,
    "deque": lambda x: Deque([x]),
    "dictionary with attributes": lambda x: collections.UserDict(strength=x),
    "proxy of a dictionary": lambda x: types.MappingProxyType({"strength": x}),
    "class in a function": class_made_by_a_function,
    "class made of a name": class_made_of_a_name,
    "class of a pack": settings_of_a_class,
    "global": reading_a_global,
    "function made of text": made_of_text,
    "fraction": fractions.Fraction,
    "conjugated tensor": lambda x: torch.tensor([x + 0.5j]).conj(),
}
MAKERS = {
    "LoRA": with_lora,
    "method of another layer": with_method_of_another_layer,
    **{name: lambda x, make=make: replaced(make(x)) for name, make in OBJECTS.items()},
    "closure": wrapped,
    "shift": shifted,
    "closure that holds the model": capturing_itself,
    "object with a text": lambda x: replaced(str(x)),
    "object with a tensor": lambda x: replaced(torch.tensor(x)),
    "object with settings": lambda x: replaced([{x: x}]),
    "object with a module": module,
    "object with a compiled module": compiled,
    "attention override": lambda x: attention_override(lambda f, *args, x=x: f(*args)),
    "attention overrides of one name": named_alike,
    "one element of a LoRA": with_small_lora,
    "one element of a patch": with_mask,
    "callback": with_callback,
    "attachment": with_attachment,
    "transformer option": with_transformer_option,
    "rope": with_rope,
    "attention before memory": attention_before_memory,
    "method before memory": method_before_memory,
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


def test_a_block_compiled_in_its_place_does_not_count():
    base = model().clone()
    base.add_object_patch(
        "diffusion_model.blocks.0", torch.compile(base.model.diffusion_model.blocks[0])
    )
    assert model_fingerprints(base) == model_fingerprints(model())


def loaded(model):
    """The model with all its patches in place, as a run leaves it."""
    comfy.model_management.load_models_gpu([model], force_full_load=True)
    return model


def with_compute_dtype(model):
    model.set_model_compute_dtype(torch.bfloat16)


def with_replaced_layers(model):
    model.add_object_patch("diffusion_model.blocks.1.ffn", torch.nn.Identity())


def with_bypassed_layer(model):
    layer = model.model.diffusion_model.blocks[0].ffn[0]
    adapter = comfy.weight_adapter.LoRAAdapter(
        set(), (torch.ones(512, 4), torch.ones(4, 256), *[None] * 4)
    )
    hook = comfy.weight_adapter.bypass.BypassForwardHook(layer, adapter)
    injection = comfy.patcher_extension.PatcherInjection(
        lambda model: hook.inject(), lambda model: hook.eject()
    )
    model.set_injections("bypass", [injection])


@pytest.mark.parametrize("patch", [with_compute_dtype, with_replaced_layers, with_bypassed_layer])
def test_it_is_the_same_before_a_model_is_loaded_while_it_is_and_after(patch):
    patched = model().clone()
    patch(patched)
    before, plain = model_fingerprints(patched), model_fingerprints(model())
    try:
        loaded(patched)
        assert model_fingerprints(patched) == before != plain
        assert model_fingerprints(model()) == plain
    finally:
        patched.detach()
    assert model_fingerprints(patched) == before
    assert model_fingerprints(model()) == plain


def test_a_method_replaced_past_the_patcher_counts(monkeypatch):
    block = model().model.diffusion_model.blocks[1]
    before = model_fingerprints(model())
    monkeypatch.setattr(block, "forward", lambda x, **kwargs: x)
    after = model_fingerprints(model())
    assert [part for part, made in before.items() if after[part] != made] == [PATCHES]


def test_a_number_that_is_set_on_a_layer_past_the_patcher_counts(monkeypatch):
    before = model_fingerprints(model())
    monkeypatch.setattr(model().model.diffusion_model.blocks[1].norm1, "eps", 0.5)
    after = model_fingerprints(model())
    assert [part for part, made in before.items() if after[part] != made] == ["model"]


def test_new_ids_of_the_host_do_not_count():
    """As in prompts that a node such as PerpNeg keeps in the model."""
    one, same = (comfy.sampler_helpers.convert_cond(tiny.conditioning(1)) for _ in range(2))
    assert one[0]["uuid"] != same[0]["uuid"]
    assert fingerprint(one) == fingerprint(same)


def test_what_a_function_sets_itself_does_not_count():
    """Where a run is, such as how often it was called."""

    def counting(attention, *args):
        global strength
        strength = strength + 1
        return attention(*args)

    before = fingerprint(counting)
    counting(max, 1, 2)
    assert fingerprint(counting) == before


def test_the_kind_of_layers_counts(monkeypatch):
    """As `fp8_e4m3fn_fast` has other layers over the same weights, on a card that can use them."""
    layer = model().model.diffusion_model.blocks[1].ffn[0]
    before = model_fingerprints(model())
    monkeypatch.setattr(layer, "__class__", comfy.ops.fp8_ops.Linear)
    after = model_fingerprints(model())
    assert [part for part, made in before.items() if after[part] != made] == ["model"]


def test_of_big_weights_samples_count():
    big = torch.zeros(2**17)
    one = Digest().of(Weights(big))
    big[1] = 1.0
    assert Digest().of(Weights(big)) == one != Digest().of(big)


APPROXIMATE = {"sage": comfy.ldm.modules.attention.attention_sage, "another pack's": max}
EXACT = {
    "split": comfy.ldm.modules.attention.attention_split,
    "sub-quadratic": comfy.ldm.modules.attention.attention_sub_quad,
}


@pytest.mark.parametrize("module", [comfy.ldm.modules.attention, comfy.ldm.wan.model])
def test_an_approximate_attention_of_the_host_counts_and_an_exact_one_does_not(module, monkeypatch):
    before = host_fingerprint()
    for attention in EXACT.values():
        monkeypatch.setattr(module, "optimized_attention", attention)
        assert host_fingerprint() == before
    for attention in APPROXIMATE.values():
        monkeypatch.setattr(module, "optimized_attention", attention)
        assert host_fingerprint() != before


def test_what_another_pack_puts_into_the_place_of_a_function_of_the_model_counts(monkeypatch):
    before = host_fingerprint()
    for place in (comfy.ldm.wan.model.WanAttentionBlock, comfy.ldm.wan.model):
        name = "forward" if inspect.isclass(place) else "sinusoidal_embedding_1d"
        made = {}
        for x in (0.5, 0.75):

            def foreign(*args, x=x):
                return x

            foreign.__module__ = PLACES[0]
            monkeypatch.setattr(place, name, foreign)
            made[x] = host_fingerprint()
        monkeypatch.undo()
        assert len({before, *made.values()}) == 3
    assert host_fingerprint() == before


def test_sums_in_half_precision_count():
    before = host_fingerprint()
    torch.backends.cuda.matmul.allow_fp16_accumulation = True  # `--fast fp16_accumulation`
    try:
        assert host_fingerprint() != before
    finally:
        torch.backends.cuda.matmul.allow_fp16_accumulation = False


# --- where files lie ------------------------------------------------------------------------------


def imported_as(name, path):
    """A module of this pack from its file, under another name."""
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    with unittest.mock.patch.dict(sys.modules, {name: module}):
        spec.loader.exec_module(module)
    return module


def test_a_policy_whose_file_has_moved_is_the_same():
    policies = Path(inspect.getfile(RelaxedMemory)).relative_to(ROOT)
    name = "relax_memory.policies.elsewhere"
    moved = imported_as(name, policies).RelaxedMemory
    assert moved.__module__ == name != RelaxedMemory.__module__
    before, after = model_fingerprints(model()), model_fingerprints(with_memory(model(), moved()))
    assert after == before
    other = model_fingerprints(with_memory(model(), moved(sink_frames=3)))
    assert [part for part, made in before.items() if other[part] != made] == ["memory"]


def test_our_own_patches_leave_nothing_whatever_they_are_called(monkeypatch):
    before = model_fingerprints(model())
    renamed = model().clone()
    ours = functools.partial(with_memory, None)
    renamed.add_wrapper_with_key("outer_sample", "relax_forcing_renamed", max)
    renamed.add_wrapper_with_key("apply_model", "renamed", ours)
    renamed.add_callback_with_key("on_load", "renamed", with_memory)
    renamed.model_options["transformer_options"]["relax_forcing_options"] = object()
    assert model_fingerprints(renamed) == before
    for module in [m for m in sys.modules.values() if "relax_memory" in getattr(m, "__name__", "")]:
        for kind in [k for k in vars(module).values() if inspect.isclass(k)]:
            if kind.__module__ == module.__name__:
                monkeypatch.setattr(
                    kind, "__module__", f"/other/place.relax_memory.x.{kind.__name__}"
                )
    assert model_fingerprints(model()) == before


PLACES = [
    "/home/a/ComfyUI/custom_nodes/Pack.patches",
    "/home/a/ComfyUI/custom_nodes/pack-main.patches",
    "C:\\ComfyUI\\custom_nodes\\Pack.patches",
    "D:\\AI\\custom_nodes/Pack@1_x_2.patches",
]


@pytest.mark.parametrize("place", PLACES[1:])
def test_another_pack_in_another_folder_is_the_same(place):
    def patch(module):
        class Patch:
            def __init__(self):
                self.strength = 1.0

        def override(attention, *args):
            return attention(*args)

        Patch.__module__ = override.__module__ = module
        return [Patch(), Patch, override]

    assert fingerprint(patch(place)) == fingerprint(patch(PLACES[0]))
    assert fingerprint(patch(place)) != fingerprint(patch(place + "2"))


def test_what_a_run_leaves_in_hooks_does_not_count():
    def scheduled(strength):
        hooks = comfy.hooks.create_hook_lora({}, strength, 0.0)
        hooks.set_keyframes_on_hooks(comfy.hooks.HookKeyframeGroup())
        hooks.hooks[0].hook_keyframe.add(comfy.hooks.HookKeyframe(strength, 0.25))
        return [[torch.ones(1, 8, 4096), {"hooks": hooks}]]

    conditioning = scheduled(0.5)
    before = fingerprint(conditioning)
    conditioning[0][1]["hooks"].hooks[0].initialize_timesteps(model().model)
    assert fingerprint(conditioning) == before != fingerprint(scheduled(0.6))


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


def test_what_the_host_makes_its_layers_for_a_card_of_does_not_count():
    """Those of quantised files hold what the card can do, and are of a class that is made anew."""
    layers = [
        comfy.ops.mixed_precision_ops({}, dtype, disabled=disabled).Linear
        for dtype, disabled in ((torch.bfloat16, []), (torch.float16, ["nvfp4"]))
    ]
    assert len(set(map(fingerprint, layers))) == 1
