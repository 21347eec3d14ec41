"""A LoRA changes the weights by exactly alpha / rank * B A, whatever names its file has."""

import json
import sys

import nodes as host_nodes
import pytest
import tiny
import torch
from families import diffusers
from loading import WEIGHTS, load, prefixed, saved

RANK, ALPHA = 16, 8.0
LINEAR = [
    name.removesuffix(".weight")
    for name, weight in WEIGHTS.items()
    if name.startswith("blocks.") and weight.ndim == 2
]


def pairs(rank=RANK, seed=0):
    """A and B of every Linear of every block, as LongLive's LoRA has them."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for layer in LINEAR:
        out, width = WEIGHTS[f"{layer}.weight"].shape
        made[layer] = (
            torch.randn(rank, width, generator=generator) * 0.02,
            torch.randn(out, rank, generator=generator) * 0.02,
        )
    return made


PAIRS = pairs()


def peft(before="base_model.model.", adapter="", alpha=None):
    named = {}
    for layer, (a, b) in PAIRS.items():
        named[f"{before}{layer}.lora_A{adapter}.weight"] = a
        named[f"{before}{layer}.lora_B{adapter}.weight"] = b
        if alpha is not None:
            named[f"{before}{layer}.alpha"] = torch.tensor(alpha)
    return named


def stock(kohya=False):
    named = {}
    for layer, (a, b) in PAIRS.items():
        name = f"lora_unet_{layer.replace('.', '_')}" if kohya else f"diffusion_model.{layer}"
        named |= {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b}
    return named


@pytest.fixture
def model(model_folder):
    return load(saved(model_folder, WEIGHTS, "self_forcing.pt"))


def with_lora(model, lora_name, strength=1.0):
    (patched,) = tiny.node(
        "RelaxForcingLoadLora", model=model, lora_name=lora_name, strength=strength
    )
    return patched


def merged(model):
    """All weights as the host computes with them."""
    keys = [f"diffusion_model.{name}" for name in WEIGHTS]
    return {
        key.removeprefix("diffusion_model."): model.patch_weight_to_device(key, return_weight=True)
        for key in keys
    }


def assert_adds(model, strength, scale=1.0):
    weights = merged(model)
    for name, weight in WEIGHTS.items():
        layer = name.removesuffix(".weight")
        expected = weight
        if layer in PAIRS and name.endswith(".weight"):
            a, b = PAIRS[layer]
            expected = weight.double() + strength * scale * (b.double() @ a.double())
        torch.testing.assert_close(weights[name].double(), expected.double(), rtol=0, atol=1e-6)


FILES = {
    "longlive": {"generator_lora": peft(), "critic_lora": peft("base_model.model.x.")},
    "memflow": {"generator_lora": peft("base_model.model.model.", ".default")},
    "wrapped": {"generator_lora": peft("base_model.model._fsdp_wrapped_module.")},
    "peft": peft(),
    "diffusers": {
        name.replace("blocks", "transformer.blocks"): weight
        for name, weight in diffusers(peft("")).items()
    },
    "stock": stock(),
    "kohya": stock(kohya=True),
}


@pytest.mark.parametrize("strength", [0.5, 1.0, -1.0])
@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_weights_are_base_and_lora(model_folder, model, content, strength):
    name = saved(model_folder, content, "lora.pt")
    assert_adds(with_lora(model, name, strength), strength)
    assert_adds(model, 0.0)


@pytest.mark.parametrize("before", ["base_model.model.", "diffusion_model."])
def test_alpha_scales_the_lora(model_folder, model, before):
    name = saved(model_folder, peft(before, alpha=ALPHA), "lora.pt")
    assert_adds(with_lora(model, name), 1.0, scale=ALPHA / RANK)


CONFIGS = {  # of PEFT, beside the file, and what it makes of the LoRA
    "alpha": ({"r": RANK, "lora_alpha": ALPHA}, ALPHA / RANK),
    "rslora": ({"r": RANK, "lora_alpha": ALPHA, "use_rslora": True}, ALPHA / RANK**0.5),
    "pattern": ({"r": RANK, "lora_alpha": 1, "alpha_pattern": {r"[qkvo]|ffn\.\d": ALPHA}}, 0.5),
    "of another": ({"r": 2 * RANK, "lora_alpha": ALPHA}, 1.0),
}


@pytest.mark.parametrize("config", CONFIGS)
def test_alpha_is_read_from_the_config_beside_the_file(model_folder, model, config):
    content, scale = CONFIGS[config]
    name = saved(model_folder, peft(), "adapter_model.safetensors")
    (model_folder / "adapter_config.json").write_text(json.dumps(content))
    assert_adds(with_lora(model, name, 0.5), 0.5, scale=scale)
    alpha = saved(model_folder, peft(alpha=ALPHA), "other.safetensors")  # the file's own counts
    assert_adds(with_lora(model, alpha), 1.0, scale=ALPHA / RANK)


@pytest.mark.parametrize("content", ["{", "[]", '{"r": 16}', '{"r": 16, "lora_alpha": "much"}'])
def test_a_config_that_cannot_be_read_is_refused(model_folder, model, content):
    name = saved(model_folder, peft(), "adapter_model.safetensors")
    (model_folder / "adapter_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"adapter_config\.json beside lora_name 'adapter_model"):
        with_lora(model, name)


def test_stacked_twice_it_counts_twice(model_folder, model):
    name = saved(model_folder, peft(), "lora.safetensors")
    assert_adds(with_lora(with_lora(model, name, 0.5), name), 1.5)


def test_it_equals_the_hosts_loader_for_a_stock_lora(model_folder, model):
    name = saved(model_folder, stock(), "lora.safetensors")
    (hosts,) = host_nodes.LoraLoaderModelOnly().load_lora_model_only(model, name, 0.75)
    ours = merged(with_lora(model, name, 0.75))
    assert all(torch.equal(weight, ours[key]) for key, weight in merged(hosts).items())


def test_fp8_weights_take_it(model_folder, model):
    name = saved(model_folder, peft(), "lora.pt")
    fp8 = load("self_forcing.pt", weight_dtype="fp8_e4m3fn")
    changed, exact = merged(with_lora(fp8, name)), merged(with_lora(model, name))
    for layer in LINEAR:
        error = changed[f"{layer}.weight"].float() - exact[f"{layer}.weight"]
        assert error.norm() / exact[f"{layer}.weight"].norm() < 0.08
    assert changed[f"{LINEAR[0]}.weight"].dtype == torch.float8_e4m3fn


def test_what_it_did_is_said(model_folder, model, monkeypatch):
    said = []
    module = sys.modules[tiny.pack()["RelaxForcingLoadLora"].__module__]
    monkeypatch.setattr(module, "tell", said.append)
    content = peft() | {"img_emb.proj.0.lora_A.weight": torch.zeros(2, 4)}
    content["img_emb.proj.0.lora_B.weight"] = torch.zeros(4, 2)
    with_lora(model, saved(model_folder, content, "lora.pt"))
    (words,) = said
    assert words.startswith("20 weights changed, rank 16 (alpha is not in the file")
    assert words.endswith("no such layer: img_emb.proj.0")


LAYER = f"base_model.model.{LINEAR[0]}"


def changed(**replaced):
    content = peft()
    for name, value in replaced.items():
        content[f"{LAYER}.{name}.weight"] = value
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            changed(lora_A=torch.zeros(RANK, 128)),
            rf"for {LINEAR[0]} it holds \(256, 16\) and \(16, 128\), but .* \(256, 256\)",
        ),
        (changed(lora_B=torch.zeros(5120, RANK)), rf"for {LINEAR[0]} .*\(5120, 16\)"),
        (changed(lora_B=torch.zeros(256, 4)), rf"for {LINEAR[0]} "),
        (changed(lora_A=torch.full((RANK, 256), torch.nan)), f"NaN or infinite .* {LINEAR[0]}"),
        (WEIGHTS, "looks like a Wan 2.1 text-to-video model, which is no LoRA"),
        ({"generator_ema": prefixed("model.")}, "looks like a Wan 2.1 text-to-video model, which"),
        ({"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(4, 2)}, "no layer of this model"),
        ({f"{LINEAR[0]}.lora_B.weight": torch.zeros(256, 2)}, "lacks .*the other half"),
        ({f"{LINEAR[0]}.lora_A.weight": torch.zeros(2, 256)}, "lacks the other half of "),
        (peft() | {f"{LAYER}.alpha": torch.tensor(torch.nan)}, f"NaN or infinite .* {LINEAR[0]}"),
        ({f"{LINEAR[0]}.diff": torch.zeros(3)}, rf"for {LINEAR[0]} it holds \(3,\)"),
        ({}, "a file without weights, which is no LoRA"),
    ],
    ids=[
        "width", "size", "rank", "nan", "model", "nested-model", "sdxl", "half",
        "other-half", "alpha", "diff", "empty",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_layer(model_folder, model, content, words):
    with pytest.raises(ValueError, match=rf"lora_name 'lora\.pt' .*{words}"):
        with_lora(model, saved(model_folder, content, "lora.pt"))


def test_a_lora_given_as_a_model_is_sent_to_the_lora_node(model_folder):
    with pytest.raises(ValueError, match="looks like a LoRA, which belongs in Relax Forcing Load"):
        load(saved(model_folder, {"generator_lora": peft()}, "lora.pt"))


@pytest.mark.parametrize("name", ["gone.pt", "../outside.pt"])
def test_only_listed_files_are_opened(model_folder, model, name):
    torch.save(peft(), model_folder.parent / "outside.pt")
    with pytest.raises(ValueError, match="lora_name .* is not among the host's LoRAs"):
        with_lora(model, name)
