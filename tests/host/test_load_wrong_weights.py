"""Weights that the host would load without a word, and make noise of, are refused by name."""

import json

import comfy.sd
import pytest
import torch
from loading import OTHER, WEIGHTS, assert_holds, load, saved

LAYER = "blocks.0.self_attn.q"
WEIGHT = f"{LAYER}.weight"
FP8 = torch.float8_e4m3fn


def quantised(dtype=FP8, largest=448.0, scale_name="weight_scale"):
    """One layer stored by a scale, all others as they are; nothing says so."""
    scale = WEIGHTS[WEIGHT].abs().max() / largest
    stored = WEIGHTS[WEIGHT] / scale
    stored = stored if dtype.is_floating_point else stored.round()
    return WEIGHTS | {WEIGHT: stored.to(dtype), f"{LAYER}.{scale_name}": scale}


def mark(layer_format):
    return torch.tensor(list(json.dumps({"format": layer_format}).encode()), dtype=torch.uint8)


def without(*names):
    return {name: weight for name, weight in WEIGHTS.items() if name not in names}


UNMARKED = {
    "scale_weight": quantised(scale_name="scale_weight"),
    "weight_scale": quantised(),
    "weight_scale_inv": quantised(scale_name="weight_scale_inv"),
    "e5m2": quantised(torch.float8_e5m2, 57344.0, "scale_weight"),
    "scale_input": WEIGHTS | {f"{LAYER}.scale_input": torch.tensor(0.5)},
    "absmax": WEIGHTS | {f"{LAYER}.weight.absmax": torch.ones(4)},
    "of-a-block": WEIGHTS | {"blocks.0.self_attn.q_scale": torch.tensor(0.5)},
    "outside": WEIGHTS | {WEIGHT: quantised()[WEIGHT], f"scales.{LAYER}": torch.tensor(0.5)},
    "bf16-with-a-scale": quantised(torch.bfloat16),
}


@pytest.mark.parametrize("weights", UNMARKED.values(), ids=UNMARKED)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "net."])
def test_a_scale_that_nobody_applies_is_refused(model_folder, weights, prefix):
    (scale,) = weights.keys() - WEIGHTS.keys()
    content = {prefix + name: weight for name, weight in weights.items()}
    with pytest.raises(ValueError, match=f"holds {scale} .*does not apply.*scaled_fp8.*bf16"):
        load(saved(model_folder, content, "model.safetensors"))


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (quantised(torch.int8, 127.0), "int8"),
        (WEIGHTS | {WEIGHT: torch.zeros(256, 128, dtype=torch.uint8)}, "uint8"),
        (WEIGHTS | {"head.head.bias": torch.zeros(64, dtype=torch.int32)}, "int32"),
        (WEIGHTS | {WEIGHT: torch.ones(256, 256, dtype=torch.bool)}, "bool"),
        (WEIGHTS | {WEIGHT: WEIGHTS[WEIGHT].abs().to(torch.float8_e8m0fnu)}, "float8_e8m0fnu"),
    ],
    ids=["int8", "packed", "int32", "bool", "powers"],
)
def test_numbers_that_are_no_weights_are_refused(model_folder, stored, words):
    with pytest.raises(ValueError, match=rf"holds (blocks|head)\S+ as \(.*{words} without saying"):
        load(saved(model_folder, stored))


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (WEIGHTS[WEIGHT].to_sparse(), "holds a sparse matrix as"),
        (WEIGHTS[WEIGHT].to("meta"), "holds no numbers as"),
        (torch.zeros(256, 256), "gives .* nothing but zeros .* unfinished download"),
        (torch.zeros(256, 256, dtype=FP8), "gives .* nothing but zeros"),
    ],
    ids=["sparse", "meta", "zeros", "zeros-in-fp8"],
)
def test_numbers_that_are_not_there_are_refused(model_folder, stored, words):
    with pytest.raises(ValueError, match=f"model_name 'model.pt' {words}"):
        load(saved(model_folder, WEIGHTS | {WEIGHT: stored}))


@pytest.mark.parametrize("told", ["no json", "[]", '{"transformer": 3, "layers": 3}'])
@pytest.mark.parametrize("name", ["config", "_quantization_metadata"])
def test_metadata_that_the_host_cannot_read_is_refused(model_folder, name, told):
    file = saved(model_folder, WEIGHTS, "model.safetensors", metadata={name: told})
    with pytest.raises(ValueError, match=rf"in its metadata \({name}\) what ComfyUI cannot read"):
        load(file)


@pytest.mark.parametrize("instead", ["ffn.0.qweight", "ffn.0.weight._data", "ffn.0.weight_packed"])
def test_quantisation_under_other_names_is_named(model_folder, instead):
    weights = without("blocks.0.ffn.0.weight")
    weights[f"blocks.0.{instead}"] = torch.zeros(8, 8, dtype=torch.int32)
    with pytest.raises(ValueError, match=rf"ComfyUI does not know \(blocks\.0\.{instead}\)"):
        load(saved(model_folder, weights))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({f"{LAYER}.comfy_quant": mark("of_tomorrow")}, "'of_tomorrow', but this ComfyUI knows"),
        ({f"{LAYER}.comfy_quant": torch.zeros(2, dtype=torch.uint8)}, "'None', but this ComfyUI"),
        ({f"{LAYER}.comfy_quant": mark("int8_tensorwise")}, "float8_e4m3fn, but .* 'int8_tensorw"),
        ({f"{LAYER}.comfy_quant": mark("float8_e5m2")}, "float8_e4m3fn, but .* 'float8_e5m2'"),
    ],
    ids=["unknown", "damaged", "another-kind", "another-fp8"],
)
def test_marks_that_say_something_else_are_refused(model_folder, more, words):
    with pytest.raises(ValueError, match=words):
        load(saved(model_folder, quantised() | more))


def test_a_mark_without_its_scale_is_refused(model_folder):
    weights = quantised() | {f"{LAYER}.comfy_quant": mark("float8_e4m3fn")}
    del weights[f"{LAYER}.weight_scale"]
    with pytest.raises(ValueError, match=rf"lacks {LAYER}\.weight_scale"):
        load(saved(model_folder, weights))


def test_a_scale_of_nothing_is_refused(model_folder):
    weights = quantised() | {f"{LAYER}.comfy_quant": mark("float8_e4m3fn")}
    weights[f"{LAYER}.weight_scale"] = torch.zeros_like(weights[f"{LAYER}.weight_scale"])
    with pytest.raises(ValueError, match=rf"gives {LAYER}\.weight_scale nothing but zeros"):
        load(saved(model_folder, weights))


@pytest.mark.parametrize("prefix", ["", "net.", "generator_ema.model."])
@pytest.mark.parametrize("dtype", [FP8, torch.int8], ids=str)
def test_marked_weights_load_with_their_scales(model_folder, dtype, prefix):
    weights = quantised(dtype, 448.0 if dtype == FP8 else 127.0)
    weights[f"{LAYER}.comfy_quant"] = mark("float8_e4m3fn" if dtype == FP8 else "int8_tensorwise")
    weights[f"{LAYER}.input_scale"] = torch.tensor(0.5)
    content = {prefix + name: weight for name, weight in weights.items()}
    model = load(saved(model_folder, content))
    loaded = model.model.diffusion_model.blocks[0].self_attn.q.weight.dequantize().float()
    error = (loaded - WEIGHTS[WEIGHT]).norm() / WEIGHTS[WEIGHT].norm()
    assert error < 0.05


def test_fp8_that_was_never_scaled_loads(model_folder):
    assert_holds(
        load(saved(model_folder, WEIGHTS | {WEIGHT: WEIGHTS[WEIGHT].to(FP8)})),
        WEIGHTS | {WEIGHT: WEIGHTS[WEIGHT].to(FP8).float()},
    )


def broken(name, value, dtype=torch.float32):
    weight = WEIGHTS[name].clone()
    weight.view(-1)[-1] = value
    return WEIGHTS | {name: weight.to(dtype)}


@pytest.mark.parametrize(
    ("name", "value", "dtype"),
    [
        ("patch_embedding.weight", torch.nan, torch.float32),
        ("blocks.1.modulation", -torch.inf, torch.bfloat16),
        (WEIGHT, torch.inf, torch.float16),
        (WEIGHT, torch.nan, FP8),
        (WEIGHT, torch.inf, torch.float8_e5m2),
    ],
)
def test_weights_that_are_not_finite_are_refused(model_folder, name, value, dtype):
    content = {"generator_ema": broken(name, value, dtype), "generator": OTHER}
    file = saved(model_folder, content)
    with pytest.raises(ValueError, match=f"gives {name} NaN or infinite values"):
        load(file)
    assert_holds(load(file, checkpoint_key="generator"), OTHER)


def test_weights_too_large_for_the_chosen_precision_are_refused(model_folder):
    file = saved(model_folder, broken(WEIGHT, 1e3))
    with pytest.raises(ValueError, match=f"gives {WEIGHT} NaN .*leave weight_dtype at default"):
        load(file, weight_dtype="fp8_e4m3fn")
    assert_holds(load(file), broken(WEIGHT, 1e3))


def test_settings_of_newer_hosts_reach_the_host(model_folder, monkeypatch):
    """They name the attention of a layer; a host that knows none of it leaves them alone."""
    given = []
    original = comfy.sd.load_diffusion_model_state_dict

    def watched(weights, **options):
        given.extend(weights)
        return original(weights, **options)

    monkeypatch.setattr(comfy.sd, "load_diffusion_model_state_dict", watched)
    name = "blocks.0.self_attn.comfy_attention.config"
    config = torch.tensor(list(b"{}"), dtype=torch.uint8)
    assert_holds(load(saved(model_folder, WEIGHTS | {name: config})))
    assert name in given
