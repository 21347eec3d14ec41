"""The loader takes the files that people have and refuses all others in a clear sentence."""

import json
import os
import pickle

import comfy.memory_management
import folder_paths
import nodes as host_nodes
import other_models
import psutil
import pytest
import safetensors.torch
import tiny
import torch
from comfy.ldm.wan.ar_model import CausalWanModel
from comfy.ldm.wan.model import WanModel
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from loading import OTHER, WEIGHTS, assert_holds, load, prefixed

from relax_memory.host.loading.identify import TEXT_TO_VIDEO, looks_like
from relax_memory.host.loading.weights import pick, read


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The host's folder for diffusion models and for LoRAs, empty."""
    for kind in ("diffusion_models", "loras"):
        entry = ([str(tmp_path)], folder_paths.supported_pt_extensions)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, entry)
    return tmp_path


def sample(model):
    """One step of the host's ordinary sampler."""
    latent = {"samples": torch.zeros(1, 16, 2, 4, 4)}
    cond = tiny.conditioning(0)
    arguments = {"seed": 0, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    arguments |= {"positive": cond, "negative": cond, "latent": latent}
    return host_nodes.common_ksampler(model, **arguments)[0]["samples"]


def rollout(model):
    inputs = {"width": 32, "height": 32, "length": 45, "seed": 3, "steps": 2, "cfg": 1.0}
    inputs |= {"frames_per_chunk": 3, "batch_size": 1, "autosave": False}
    latent, _ = tiny.node(
        "RelaxForcingSampler", model=model, positive=tiny.conditioning(1), **inputs
    )
    return latent["samples"]


def wrapped_inside(weights):
    return {
        "model._fsdp_wrapped_module."
        + name.replace("self_attn.", "_checkpoint_wrapped_module.self_attn._orig_mod."): weight
        for name, weight in weights.items()
    }


@pytest.mark.parametrize(
    "content",
    [
        {"generator": prefixed("model.", OTHER), "generator_ema": prefixed("model.")},
        {"generator": prefixed("model._fsdp_wrapped_module."), "critic": OTHER},
        {"generator": wrapped_inside(WEIGHTS)},
        {"generator_ema": {}, "generator": WEIGHTS, "model": OTHER},
        {"model": prefixed("_orig_mod.")},
        {"state_dict": prefixed("module.model."), "epoch": 3},
        {"model": prefixed("model.diffusion_model._orig_mod._fsdp_wrapped_module.model.")},
        {"generator": {"state_dict": prefixed("diffusion_model.")}},
        WEIGHTS,
        prefixed("model.diffusion_model."),
    ],
    ids=[
        "self-forcing", "causvid", "wrapped-inside", "empty-ema", "compiled", "lightning",
        "all-prefixes", "nested-twice", "flat", "flat-prefix",
    ],
)  # fmt: skip
def test_training_files_load(folder, content):
    torch.save(content, folder / "model.pt")
    assert_holds(load("model.pt"))


@pytest.mark.parametrize("key", ["generator_ema", "generator", "model"])
def test_the_key_decides_which_model_is_taken(folder, key):
    parts = dict.fromkeys(("generator_ema", "generator", "model"), OTHER)
    torch.save(parts | {key: WEIGHTS}, folder / "model.pt")
    assert_holds(load("model.pt", checkpoint_key=key))


@pytest.mark.parametrize("prefix", ["", "model.", "diffusion_model.", "generator_ema.model."])
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, tiny.CAUSAL_METADATA])
def test_safetensors_load_with_and_without_metadata(folder, prefix, metadata):
    safetensors.torch.save_file(prefixed(prefix), folder / "model.safetensors", metadata=metadata)
    model = load("model.safetensors")
    assert_holds(model)
    causal = metadata is tiny.CAUSAL_METADATA
    assert type(model.model.diffusion_model) is (CausalWanModel if causal else WanModel)


def test_a_pickle_of_the_old_format_loads(folder):
    torch.save({"generator": WEIGHTS}, folder / "model.pt", _use_new_zipfile_serialization=False)
    assert_holds(load("model.pt"))


def scaled_fp8(prefix):
    """Weights of the blocks in fp8 with a scale each, and the names of these layers."""
    weights, layers = dict(prefixed(prefix)), []
    for name, weight in prefixed(prefix).items():
        if ".attn" in name.replace("self_", "").replace("cross_", "") and weight.ndim == 2:
            layer = name.removesuffix(".weight")
            scale = weight.abs().max() / 448
            weights[name] = (weight / scale).to(torch.float8_e4m3fn)
            weights[f"{layer}.weight_scale"] = scale
            layers.append(layer)
    return weights, layers


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("form", ["metadata", "marker"])
def test_scaled_fp8_keeps_its_scales(folder, prefix, form):
    weights, layers = scaled_fp8(prefix)
    assert len(layers) == 2 * 8
    metadata = None
    if form == "metadata":
        settings = {"layers": {layer: {"format": "float8_e4m3fn"} for layer in layers}}
        metadata = {"_quantization_metadata": json.dumps(settings)}
    else:
        weights = {k.replace(".weight_scale", ".scale_weight"): w for k, w in weights.items()}
        weights[f"{prefix}scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    safetensors.torch.save_file(weights, folder / "fp8.safetensors", metadata=metadata)
    torch.save(WEIGHTS, folder / "full.pt")
    fp8, full = sample(load("fp8.safetensors")), sample(load("full.pt"))
    assert 0 < (fp8 - full).norm() / full.norm() < 0.05


@pytest.mark.parametrize(
    ("weight_dtype", "dtype"),
    [
        ("fp8_e4m3fn", torch.float8_e4m3fn),
        ("fp8_e4m3fn_fast", torch.float8_e4m3fn),
        ("fp8_e5m2", torch.float8_e5m2),
    ],
)
def test_weight_dtype_is_the_hosts(folder, weight_dtype, dtype):
    torch.save(WEIGHTS, folder / "model.pt")
    model = load("model.pt", weight_dtype=weight_dtype)
    assert model.model.diffusion_model.blocks[0].self_attn.q.weight.dtype == dtype
    assert model.model.model_config.optimizations["fp8"] == weight_dtype.endswith("fast")


@pytest.mark.parametrize("shift", [5.0, 3.0])
def test_shift_is_set_as_the_host_sets_it(folder, shift):
    torch.save(WEIGHTS, folder / "model.pt")
    model = load("model.pt", shift=shift)
    expected = ModelSamplingSD3().patch(tiny.model(), shift)[0].get_model_object("model_sampling")
    sampling = model.get_model_object("model_sampling")
    assert torch.equal(sampling.sigmas, expected.sigmas)
    assert sampling.multiplier == expected.multiplier
    assert model.model.model_sampling is not sampling


@pytest.mark.parametrize(
    "shape",
    [
        {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30},
        {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40},
    ],
    ids=["1.3B", "14B"],
)
def test_real_sizes_are_recognised(shape):
    weights = other_models.wan(**shape)
    file = prefixed("generator_ema.model._fsdp_wrapped_module.", weights)
    assert looks_like(pick(file, "auto", "model.pt"), {}) == TEXT_TO_VIDEO


def lora(strength=1.0):
    """A LoRA of rank 2 for one layer, under the names that LoRAs for Wan have."""
    layer = "diffusion_model.blocks.0.self_attn.v"
    up, down = torch.ones(256, 2) * strength, torch.ones(2, 256)
    return {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: other_models.wan("i2v", in_dim=36), "Wan image-to-video"),
        (lambda: other_models.wan("i2v", in_dim=48), "48 input"),
        (other_models.vace, "Wan VACE"),
        (lambda: other_models.wan(in_dim=48, out_dim=48), "Wan 2.2 5B"),
        (lambda: other_models.wan(in_dim=36), "Wan 2.2 image-to-video"),
        (lambda: other_models.wan(in_dim=52), "52 input"),
        (other_models.hunyuan_video, "HunyuanVideo"),
        (lambda: prefixed("model.diffusion_model.", other_models.sdxl()), "SDXL"),
        (lora, "a LoRA"),
        (other_models.wan_vae, "a VAE"),
        (other_models.umt5, "a text encoder"),
        (other_models.diffusers_wan, "diffusers layout"),
        (lambda: {"weight": torch.zeros(2)}, "unknown (it begins with weight)"),
        (lambda: {"step": 5}, "without weights"),
    ],
    ids=[
        "i2v", "fun-control", "vace", "5B", "2.2-i2v", "2.2-control", "hunyuan", "sdxl", "lora",
        "vae", "umt5", "diffusers", "unknown", "no-weights",
    ],
)  # fmt: skip
def test_another_model_is_refused_with_what_it_looks_like(folder, make, words):
    content = {
        # An expanded zero is saved as one number, so that real shapes make small files.
        name: torch.zeros(1).expand(value.shape) if isinstance(value, torch.Tensor) else value
        for name, value in make().items()
    }
    torch.save(content, folder / "model.pt")
    with pytest.raises(ValueError, match=r"model_name 'model\.pt' looks like .* choose a") as error:
        load("model.pt")
    assert words in str(error.value)


@pytest.mark.parametrize("name", ["empty.safetensors", "empty.pt"])
def test_an_empty_file_is_refused(folder, name):
    (folder / name).touch()
    with pytest.raises(ValueError, match=f"'{name}' is empty .*download it again"):
        load(name)


@pytest.mark.parametrize("kept", [4, 1000, 0.5, 0.999])
@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt"])
def test_a_file_cut_short_is_refused(folder, name, kept):
    whole = folder / f"whole-{name}"
    (safetensors.torch.save_file if "safe" in name else torch.save)(WEIGHTS, whole)
    content = whole.read_bytes()
    (folder / name).write_bytes(content[: kept if kept > 1 else int(kept * len(content))])
    with pytest.raises(ValueError, match=f"'{name}' cannot be read .*download it again"):
        load(name)


class Payload:
    """Unpickling this the ordinary way would make a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("save", ["torch", "torch-old", "pickle"])
@pytest.mark.parametrize("extension", ["pt", "pth", "ckpt", "bin", "pkl"])
def test_a_malicious_pickle_runs_nothing(folder, save, extension):
    target, file = folder / "proof", folder / f"model.{extension}"
    content = {"config": Payload(target), "generator_ema": WEIGHTS}
    if save == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=save == "torch")
    with pytest.raises(ValueError, match=r"asks to run Python code \(\w+\.mkdir\)") as error:
        load(file.name)
    assert error.value.__suppress_context__, "torch's own text tells how to read it unsafely"
    assert not target.exists()


def test_the_malicious_payload_is_live(folder):
    pickle.loads(pickle.dumps(Payload(folder / "proof")))  # noqa: S301
    assert (folder / "proof").exists()


def test_a_key_that_the_file_lacks_is_named_with_those_it_has(folder):
    torch.save({"critic": OTHER, "generator": WEIGHTS, "step": 600}, folder / "model.pt")
    with pytest.raises(ValueError, match="'generator_ema', but .* it has critic, generator: "):
        load("model.pt", checkpoint_key="generator_ema")


@pytest.mark.parametrize(
    "name", ["gone.pt", "../outside.pt", "sub/../../outside.pt", "{outside}", "", "."]
)
def test_only_listed_files_are_opened(folder, tmp_path_factory, name):
    outside = folder.parent / "outside.pt"
    torch.save(WEIGHTS, outside)
    with pytest.raises(ValueError, match="is not among the host's diffusion models: put the file"):
        load(name.format(outside=outside))


def test_pt_files_are_offered(folder):
    torch.save(WEIGHTS, folder / "model.pt")
    options = tiny.pack()["RelaxForcingLoadModel"].INPUT_TYPES()["required"]["model_name"]
    assert "model.pt" in options[1]["options"]


def test_missing_weights_are_named(folder):
    lost = ("blocks.1.cross_attn.k.weight", "time_embedding.0.bias")
    torch.save({k: w for k, w in WEIGHTS.items() if k not in lost}, folder / "model.pt")
    with pytest.raises(ValueError, match="lacks weights") as error:
        load("model.pt")
    assert all(name in str(error.value) for name in lost)


@pytest.mark.parametrize("lost", ["blocks.0.", "head.", "patch_embedding."])
def test_a_model_with_a_gap_is_refused(folder, lost):
    torch.save({k: w for k, w in WEIGHTS.items() if not k.startswith(lost)}, folder / "model.pt")
    with pytest.raises(ValueError, match=f"(lacks weights|without) .*{lost[:-1]}"):
        load("model.pt")


def test_training_shards_are_refused(folder):
    torch.save({"model": {name: w.flatten() for name, w in WEIGHTS.items()}}, folder / "model.pt")
    with pytest.raises(ValueError, match="flattened weights, as training saves them"):
        load("model.pt")


def test_two_models_under_one_name_are_not_mixed(folder):
    torch.save({"module": WEIGHTS, "diffusion_model": OTHER}, folder / "model.pt")
    with pytest.raises(ValueError, match="twice under different prefixes"):
        load("model.pt")


def test_what_is_not_the_models_is_ignored_and_reported(folder, caplog):
    strange = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "step": torch.tensor(1)}
    torch.save(WEIGHTS | strange | {"args": ["--lr", 1e-5]}, folder / "model.pt")
    assert_holds(load("model.pt"))
    assert "model.pt: ignored what is not the model's" in caplog.text
    assert "optimizer.state.0.exp_avg" in caplog.text


def test_a_training_file_is_not_read_into_memory_as_a_whole(folder):
    parts = {key: {"weight": torch.zeros(2**25)} for key in ("generator", "generator_ema")}
    torch.save(parts, folder / "model.pt")
    del parts
    before = psutil.Process().memory_info().rss
    tensors, _ = read(str(folder / "model.pt"))
    assert len(tensors) == 2
    assert psutil.Process().memory_info().rss - before < 2**26  # of 2**28 bytes in the file


def test_a_lora_from_the_hosts_loader_changes_the_video(folder):
    torch.save({"generator_ema": prefixed("model.")}, folder / "model.pt")
    safetensors.torch.save_file(lora(0.1), folder / "lora.safetensors")
    model = load("model.pt")
    loader = host_nodes.LoraLoaderModelOnly()
    changed, zero = (loader.load_lora_model_only(model, "lora.safetensors", s)[0] for s in (1, 0))
    assert torch.equal(sample(zero), sample(model))
    assert not torch.allclose(sample(changed), sample(model))
    assert changed.get_model_object("model_sampling").shift == 5.0


def test_dynamic_vram_whose_layers_begin_without_weights_changes_nothing(folder, monkeypatch):
    """The host turns it on for NVIDIA cards as it starts."""
    torch.save({"generator_ema": WEIGHTS}, folder / "model.pt")
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    assert_holds(load("model.pt"))


def test_the_host_can_load_the_file_anew_for_a_clone(folder):
    torch.save({"generator": WEIGHTS, "generator_ema": OTHER}, folder / "model.pt")
    model = load("model.pt", checkpoint_key="generator", shift=4.0)
    clone = model.deepclone_multigpu(new_load_device=torch.device("cpu"))
    assert clone.model is not model.model
    assert_holds(clone)
    assert torch.equal(sample(clone), sample(model))


def test_a_clone_with_weights_of_its_own_needs_none_of_the_model_it_was(folder):
    """The host loads weights again for torch.compile, for hooks and for other devices."""
    torch.save({"generator_ema": WEIGHTS}, folder / "model.pt")
    (model,) = tiny.node("RelaxForcingMemory", model=load("model.pt"), **tiny.MEMORY)
    video, ordinary = rollout(model), sample(model)
    clone = model.deepclone_multigpu(new_load_device=torch.device("cpu"))
    for weight in model.model.diffusion_model.parameters():
        weight.data.fill_(torch.nan)
    assert torch.equal(rollout(clone), video)
    assert torch.equal(sample(clone), ordinary)
    (again,) = tiny.node("RelaxForcingMemory", model=clone, **tiny.MEMORY)
    assert torch.equal(rollout(again), video)
