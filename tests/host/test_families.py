"""Every family's files load as their authors run them, and the model knows how that is."""

import comfy.sd
import nodes as host_nodes
import pytest
import tiny
import torch
from comfy_extras.nodes_model_merging import ModelMergeSimple
from families import BF16, FILES, HALF, both, diffusers, rcm
from loading import OTHER, WEIGHTS, load, prefixed, saved

from relax_memory.host.loading.recipe import recipe_of, words
from relax_memory.recipes import FAMILIES, RECIPES, recipe_named

ALL = [(family, name) for family, files in FILES.items() for name in files]


def assert_same_weights(model, weights=WEIGHTS):
    loaded = model.model.diffusion_model.state_dict()
    assert loaded.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(loaded[name], weight.to(loaded[name].dtype)), name


def write(folder, name, content):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return saved(folder, content, name)


@pytest.mark.parametrize(("family", "name"), ALL, ids=[name for _, name in ALL])
def test_a_file_as_its_authors_lay_it_out_gives_the_plain_weights(model_folder, family, name):
    model = load(write(model_folder, name, FILES[family][name]))
    assert_same_weights(model, BF16 if name in HALF else WEIGHTS)
    assert recipe_of(model).family == family
    assert words(model).startswith(f"{family}, because the name of the file says so: ")


def test_every_family_has_a_file_here():
    assert set(FILES) == {recipe.family for recipe in RECIPES} == {*FAMILIES} - {"auto", "other"}


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.family for recipe in RECIPES])
def test_every_recipe_can_be_sampled(recipe):
    for sigmas in (recipe.first_sigmas, recipe.sigmas):
        assert list(sigmas) == sorted(set(sigmas), reverse=True)
        assert sigmas[-1] == 0 < sigmas[-2] and sigmas[0] <= 1
    assert recipe.passes[1] <= recipe.passes[0] <= 5
    assert recipe.link.startswith("https://")


def test_levels_are_those_of_the_authors():
    usual = (1.0, 0.9375, 5 / 6, 0.625, 0.0)
    assert recipe_named("Self Forcing").sigmas == pytest.approx(usual)
    assert recipe_named("CausVid").sigmas == (1.0, 0.757, 0.522, 0.0)
    quick = recipe_named("Causal Forcing++ 2-step")
    assert quick.first_sigmas == pytest.approx(usual)
    assert quick.sigmas == pytest.approx((1.0, 5 / 6, 0.0))
    assert quick.passes == (5, 3)
    assert recipe_named("Causal Forcing++ 1-step").passes == (5, 2)


@pytest.mark.parametrize(
    ("name", "content", "family", "why"),
    [
        ("epoch_3.pt", both("generator_ema"), "Self Forcing", "under generator and generator_ema"),
        ("model.pt", rcm(), "rCM chunk-wise", "patch embedding is a matrix"),
        ("causal_forcing.pt", both("generator_ema"), "Causal Forcing chunk-wise", "does not say"),
    ],
)
def test_a_guess_is_called_a_guess_and_old_workflows_keep_their_weights(
    model_folder, name, content, family, why
):
    model = load(saved(model_folder, content, name))
    assert_same_weights(model)
    assert words(model).startswith(f"Guessed: {family}, because")
    assert why in words(model)


def test_what_nothing_is_known_of_has_no_recipe(model_folder):
    model = load(saved(model_folder, WEIGHTS, "wan2.1_t2v_1.3B.safetensors"))
    assert recipe_of(model) is recipe_of(tiny.model()) is None
    assert words(model).startswith("Family unknown")


def test_the_chosen_family_says_which_weights_are_meant(model_folder):
    name = saved(model_folder, both("generator"))
    model = load(name, family="LongLive")
    assert_same_weights(model)
    assert words(model).startswith("LongLive, because you chose it: 3 frames a chunk, 4 steps")
    assert_same_weights(load(name, family="LongLive", checkpoint_key="generator_ema"), OTHER)
    assert_same_weights(load(name, family="other"), OTHER)
    assert recipe_of(load(name, family="other")) is None


def test_an_unknown_family_is_refused(model_folder):
    with pytest.raises(ValueError, match=r"family is 'Wan 3', but only these.*Self Forcing"):
        load(saved(model_folder, WEIGHTS), family="Wan 3")


def test_a_family_of_another_size_is_refused(model_folder):
    weights = {
        name: torch.zeros(1).expand([1536 if size == 256 else size for size in weight.shape])
        for name, weight in WEIGHTS.items()
    }
    name = saved(model_folder, weights)
    with pytest.raises(ValueError, match=r"'Krea Realtime', which has 14B .* model of 1\.3B"):
        load(name, family="Krea Realtime")


def test_a_rolling_window_checkpoint_is_warned_about(model_folder):
    model = load(write(model_folder, "chunkwise/longvideo.pt", both("generator_ema")))
    assert "rolling window" in words(model)


def test_kept_keys_of_the_last_step_are_known(model_folder):
    name = "Causal_rCM_Wan2.1_T2V_1.3B_480p_v1_c3-3_step4_noisy_ctx.pt"
    model = load(saved(model_folder, rcm(), name))
    assert not recipe_of(model).clean_pass
    assert "3 frames a chunk, 4 steps; no clean pass." in words(model)
    chosen = load(saved(model_folder, rcm(), name), family="rCM chunk-wise")
    assert recipe_of(chosen) == recipe_of(model)
    assert recipe_of(model).passes == (4, 4)


def test_the_recipe_stays_with_the_model(model_folder):
    model = load(saved(model_folder, both("generator_ema"), "self_forcing_dmd.pt"))
    saved(model_folder, {"diffusion_model.blocks.0.ffn.0.diff": torch.ones(512, 256)}, "lora.pt")
    (changed,) = host_nodes.LoraLoaderModelOnly().load_lora_model_only(model, "lora.pt", 1.0)
    (merged,) = ModelMergeSimple().merge(changed, tiny.model(layers=2), 0.5)
    (remembering,) = tiny.node("RelaxForcingMemory", model=merged, **tiny.MEMORY)
    anew = model.deepclone_multigpu(new_load_device=torch.device("cpu"))
    for later in (model.clone(), changed, merged, remembering, anew):
        assert recipe_of(later).family == "Self Forcing"


@pytest.mark.parametrize("prefix", ["", "transformer.", "model."])
def test_diffusers_names_are_read_with_and_without_a_prefix(model_folder, prefix):
    content = prefixed(prefix, diffusers(WEIGHTS))
    assert_same_weights(load(saved(model_folder, content, "model.safetensors")))


def test_half_a_diffusers_model_is_a_part(model_folder):
    half = dict(list(diffusers(WEIGHTS).items())[:-20])
    assert "proj_out.weight" not in half
    with pytest.raises(ValueError, match="a part of a Wan model in the diffusers layout"):
        load(saved(model_folder, half))


def test_diffusers_scales_that_nobody_applies_are_refused(model_folder):
    content = diffusers(WEIGHTS) | {"blocks.1.attn2.to_k.weight_scale": torch.tensor(0.5)}
    with pytest.raises(ValueError, match=r"holds blocks\.1\.cross_attn\.k\.weight_scale"):
        load(saved(model_folder, content))


def test_an_image_to_video_model_of_diffusers_is_named(model_folder):
    content = diffusers(WEIGHTS)
    content["patch_embedding.weight"] = torch.zeros(256, 36, 1, 2, 2)
    content["condition_embedder.image_embedder.norm1.bias"] = torch.zeros(4)
    with pytest.raises(ValueError, match="Wan image-to-video"):
        load(saved(model_folder, content))


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize(
    ("dtype", "most", "error"),
    [(torch.float8_e4m3fn, 448, 0.05), (torch.float8_e5m2, 57344, 0.1)],
    ids=["e4m3", "e5m2"],
)
def test_scaled_fp8_of_a_family_keeps_its_scales(model_folder, prefix, dtype, most, error):
    layer = f"{prefix}blocks.0.ffn.0"
    weight = WEIGHTS["blocks.0.ffn.0.weight"]
    scale = weight.abs().max() / most
    content = prefixed(prefix) | {
        f"{prefix}scaled_fp8": torch.zeros(2).to(dtype),
        f"{layer}.weight": (weight / scale).to(dtype),
        f"{layer}.scale_weight": scale,
        f"{layer}.scale_input": torch.tensor(1.0),
    }
    model = load(saved(model_folder, content, "self_forcing_fp8_scaled.safetensors"))
    loaded = model.model.diffusion_model.blocks[0].ffn[0].weight.dequantize().float()
    assert (loaded - weight).norm() / weight.norm() < error
    assert recipe_of(model).family == "Self Forcing"


def test_packed_fp4_of_a_vendor_is_refused(model_folder):
    layer = "blocks.0.ffn.0"
    content = WEIGHTS | {
        f"{layer}.weight": torch.zeros(512, 128, dtype=torch.uint8),
        f"{layer}.weight_scale": torch.ones(512, 16).to(torch.float8_e4m3fn),
        f"{layer}.weight_global_scale": torch.tensor(1.0),
        f"{layer}.input_global_scale": torch.tensor(1.0),
    }
    with pytest.raises(ValueError, match=rf"holds {layer}\.weight as .* of uint8 without saying"):
        load(saved(model_folder, content, "self_forcing_nvfp4.safetensors"))


def test_the_host_itself_makes_the_same_of_a_plain_file():
    model = comfy.sd.load_diffusion_model_state_dict(dict(WEIGHTS))
    assert_same_weights(model)
