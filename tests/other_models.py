"""Weights of models that are not ours, in the host's key layouts and without values.

The host's own classes make them on the meta device; only names and shapes are real.
"""

import comfy.ldm.hunyuan_video.model
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.ldm.wan.model
import comfy.ldm.wan.vae
import comfy.ops
import comfy.text_encoders.t5
import torch
from comfy.ldm.wan.model import WanModel

META = {"device": "meta", "dtype": torch.float16, "operations": comfy.ops.disable_weight_init}


def wan(model_type="t2v", network=WanModel, **settings):
    """A Wan model; `settings` are those of `WanModel`."""
    size = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 2}
    return network(model_type=model_type, **size | settings, **META).state_dict()


def diffusers_wan():
    names = "condition_embedder.time_embedder.linear_1", "blocks.0.attn1.to_q"
    return {f"{name}.weight": torch.zeros(256, 256) for name in names}


def vace():
    """A Wan 2.1 VACE model."""
    return wan("vace", comfy.ldm.wan.model.VaceWanModel, vace_layers=1, vace_in_dim=96)


def hunyuan_video():
    return comfy.ldm.hunyuan_video.model.HunyuanVideo(
        image_model="hunyuan_video",
        in_channels=16,
        out_channels=16,
        vec_in_dim=64,
        context_in_dim=64,
        hidden_size=256,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[16, 56, 56],
        theta=256,
        patch_size=[1, 2, 2],
        qkv_bias=True,
        guidance_embed=True,
        byt5=False,
        meanflow=False,
        use_cond_type_embedding=False,
        vision_in_dim=None,
        meanflow_sum=False,
        **META,
    ).state_dict()


def sdxl():
    return comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel(
        image_size=32,
        in_channels=4,
        model_channels=320,
        out_channels=4,
        num_res_blocks=[2, 2, 2],
        channel_mult=[1, 2, 4],
        num_head_channels=64,
        use_spatial_transformer=True,
        use_linear_in_transformer=True,
        transformer_depth=[0, 0, 2, 2, 10, 10],
        transformer_depth_middle=10,
        transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10],
        context_dim=2048,
        num_classes="sequential",
        adm_in_channels=2816,
        **META,
    ).state_dict()


def wan_vae():
    return comfy.ldm.wan.vae.WanVAE(dim=32, z_dim=16, dim_mult=[1, 2]).state_dict()


def umt5():
    config = {"d_model": 64, "d_ff": 64, "d_kv": 16, "num_heads": 4}
    config |= {"num_layers": 2, "vocab_size": 32}
    config |= {"dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, "model_type": "umt5"}
    return comfy.text_encoders.t5.T5(config, **META).state_dict()
