"""What a MODEL carries is called by the host, harmless, said, or refused by name."""

import pytest
import seen
import tiny
import torch
from comfy_extras.nodes_apg import APG
from comfy_extras.nodes_context_windows import WanContextWindowsManualNode
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_nag import NAGuidance
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_tcfg import TCFG
from comfy_extras.nodes_tomesd import TomePatchModel
from comfy_extras.nodes_video_model import VideoLinearCFGGuidance
from runs import WAYS

CACHE = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}


def patched(**options):
    model = tiny.remembering()
    model.model_options["transformer_options"].update(options)
    return model


def context_windows(model):
    return WanContextWindowsManualNode.execute(
        model=model,
        context_length=81,
        context_overlap=30,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        freenoise=False,
    )[0]


def cached_by_another_pack():
    return patched(rel_l1_thresh=0.1, enable_teacache=True)


REFUSED = {
    "EasyCache": (
        lambda: EasyCacheNode.execute(tiny.remembering(), **CACHE)[0],
        "model has easycache, which leaves out steps or blocks, .*: remove that node",
    ),
    "LazyCache": (
        lambda: LazyCacheNode.execute(tiny.remembering(), **CACHE)[0],
        "model has easycache, which leaves out steps",
    ),
    "a cache of another pack": (
        cached_by_another_pack,
        "model has enable_teacache, which leaves out steps",
    ),
    "context windows": (
        lambda: context_windows(tiny.remembering()),
        "model has context windows, .*: remove the context windows node",
    ),
    "sound": (
        lambda: patched(audio_embeds=torch.ones(1)),
        r"model has sound to be followed \(audio_embeds\)",
    ),
    "HyperTile": (
        lambda: HyperTile.execute(
            tiny.remembering(), tile_size=256, swap_size=2, max_depth=0, scale_depth=False
        )[0],
        "model has the attn1_patch .*hypertile_in of .*nodes_hypertile, which is written for",
    ),
    "a cfg by frame": (
        lambda: VideoLinearCFGGuidance().patch(tiny.remembering(), 1.0)[0],
        "model has the guidance VideoLinearCFGGuidance.*, which gives each video of a batch a cfg",
    ),
    "token merging": (
        lambda: TomePatchModel.execute(tiny.remembering(), 0.3)[0],
        "model has the attn1_patch .* of .*nodes_tomesd, which is written for another kind",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_chunk_cannot_follow_is_refused(kind, way):
    make, words = REFUSED[kind]
    with pytest.raises(ValueError, match=words):
        WAYS[way](model=make())


def perturbed():
    """Replaces attention in the calls of its own."""
    return PerturbedAttentionGuidance.execute(tiny.remembering(), 3.0)[0]


def attention_replaced():
    model = tiny.remembering().clone()
    model.set_model_attn1_replace(lambda q, k, v, options: v, "middle", 0)
    return model


def output_block():
    model = tiny.remembering().clone()
    model.set_model_output_block_patch(lambda h, skip, options: (h, skip))
    return model


SAID = {
    "a patch for U-nets": (
        output_block,
        "model has output_block_patch, which a Wan 2.1 model never calls: it takes no part.",
    ),
    "attention output": (
        lambda: attention_output(),
        "model has attn1_output_patch, which a Wan 2.1 model never calls",
    ),
    "attention replacement": (
        attention_replaced,
        "model has attn1 replacement, which a Wan 2.1 model",
    ),
    "guidance that replaces attention": (
        perturbed,
        "model has attn1 replacement, which a Wan 2.1 model",
    ),
    "guidance without a negative": (
        lambda: TCFG.execute(tiny.remembering())[0],
        "nodes_tcfg, but at cfg 1.0 the host leaves the negative conditioning out",
    ),
    "another pack's": (
        lambda: patched(glow=1, shine=2),
        "model carries glow, shine, which Relax Forcing does not know.",
    ),
}


def attention_output():
    model = NAGuidance.execute(tiny.remembering(), 5.0, 0.5, 1.5)[0]
    del model.model_options["disable_cfg1_optimization"]  # there is no negative here
    return model


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", SAID)
def test_what_takes_no_part_is_said(kind, way, caplog):
    make, words = SAID[kind]
    assert torch.equal(WAYS[way](model=make()), WAYS[way]())
    assert caplog.text.count(words) == 1


def test_what_the_host_calls_is_let_through_in_silence(caplog):
    model = APG.execute(tiny.remembering(), eta=1.0, norm_threshold=5.0, momentum=0.0)[0]
    model = PerturbedAttentionGuidance.execute(model, 0.0)[0]
    model.set_model_unet_function_wrapper(
        lambda apply, given: apply(given["input"], given["timestep"], **given["c"])
    )
    inputs = {"cfg": 2.0, "negative": tiny.conditioning(2)}
    assert WAYS["own"](model=model, **inputs).isfinite().all()
    assert "takes no part" not in caplog.text
    assert "does not know" not in caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_a_model_without_a_memory_node_is_said_on_the_node(way):
    with seen.node() as shown:
        without = WAYS[way](model=tiny.model("wan"))
    assert any("No memory node: the settings of the paper" in text for text in shown.texts)
    with seen.node() as shown:
        remembered = WAYS[way](model=tiny.remembering(reservoir_frames=120))
    assert not any("No memory node" in text for text in shown.texts)
    assert torch.equal(without, remembered)
