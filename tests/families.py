"""Files as the authors of each family lay theirs out: nesting, names, shapes and kinds, but small.

The files themselves are gigabytes and were not read; see docs/checkpoints.md for what is known.
"""

import torch
from loading import OTHER, WEIGHTS, prefixed

BF16 = {name: weight.bfloat16() for name, weight in WEIGHTS.items()}
FSDP = "model._fsdp_wrapped_module."
DIFFUSERS = {
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "modulation": "scale_shift_table",
}


def diffusers(weights):
    """The weights under the names of diffusers."""
    named = {}
    for name, weight in weights.items():
        for ours, theirs in DIFFUSERS.items():
            head, found, tail = f".{name}.".partition(f".{ours}.")
            if found:
                name = f"{head}.{theirs}.{tail}".strip(".")
                break
        named[name] = weight
    return named


def rcm(weights=WEIGHTS):
    """Patches embedded by a matrix, four numbers of training, all under `net`."""
    matrix = weights["patch_embedding.weight"].flatten(1)
    assert matrix.shape == (256, 64)
    counters = ("accum_video_sample", "accum_image_sample", "accum_iteration", "accum_train_hours")
    scalars = {f"{name}_counter": torch.tensor(7) for name in counters}
    return prefixed("net.", weights | {"patch_embedding.weight": matrix} | scalars)


def both(wanted):
    """A training file whose average and last state differ."""
    parts = dict.fromkeys(("generator", "generator_ema"), prefixed("model.", OTHER))
    return parts | {wanted: prefixed("model.")}


HALF = ("krea-realtime-video-14b.safetensors", "wan2.1_14B_causvid.safetensors")  # in bf16

# Family: files, each with its content. All hold WEIGHTS where the authors' scripts look.
FILES = {
    "Self Forcing": {
        "self_forcing_dmd.pt": both("generator_ema"),
        "Self-Forcing/checkpoints/self_forcing_sid.pt": both("generator_ema"),
        "SFWan2.1-T2V-1.3B-Diffusers/diffusion_pytorch_model.safetensors": diffusers(WEIGHTS),
    },
    "Causal Forcing chunk-wise": {"chunkwise/causal_forcing.pt": both("generator")},
    "Causal Forcing frame-wise": {
        "framewise/causal_forcing.pt": both("generator_ema"),
        "causal_forcing-framewise.safetensors": WEIGHTS,
    },
    "Causal Forcing++ 2-step": {"causal-forcing++/framewise-2step.pt": both("generator_ema")},
    "Causal Forcing++ 1-step": {"causal-forcing++/framewise-1step.pt": both("generator_ema")},
    "Causal Forcing long video": {"chunkwise/longvideo.pt": both("generator_ema")},
    "Infinite Forcing": {"Infinite-Forcing/ema_model.pt": {"generator_ema": prefixed(FSDP)}},
    "Reward Forcing": {"rewardforcing.pt": {"ema": prefixed("model."), "generator": OTHER}},
    "LongLive": {"LongLive-1.3B/longlive_base.pt": both("generator")},
    "MemFlow": {"MemFlow/base.pt": both("generator")},
    "Self Gradient Forcing chunk-wise": {
        "Self_Gradient_Forcing/chunkwise.pt": both("generator_ema")
    },
    "Self Gradient Forcing frame-wise": {
        "Self_Gradient_Forcing/framewise.pt": both("generator_ema")
    },
    "Self Gradient Forcing Plus chunk-wise": {
        "Self_Gradient_Forcing_Plus/chunkwise.pt": both("generator_ema")
    },
    "Self Gradient Forcing Plus frame-wise": {
        "Self_Gradient_Forcing_Plus/framewise.pt": both("generator_ema")
    },
    "OneForcing": {"one_forcing.pt": {"generator_ema": prefixed(FSDP)}},
    "rCM chunk-wise": {"Causal_rCM_Wan2.1_T2V_1.3B_480p_v1_c3-3_step4.pt": rcm()},
    "rCM chunk-wise 2-step": {"Causal_rCM_Wan2.1_T2V_14B_480p_v1_c3-3_step2.pt": rcm()},
    "rCM chunk-wise 1-step": {"Causal_rCM_Wan2.1_T2V_14B_480p_v1_c3-3_step1.pt": rcm()},
    "rCM frame-wise": {"Causal_rCM_Wan2.1_T2V_1.3B_480p_v1_c1-1.pt": rcm()},
    "rCM frame-wise 2-step": {"Causal_rCM_Wan2.1_T2V_1.3B_480p_v1_c1-1_step2.pt": rcm()},
    "rCM frame-wise 1-step": {"Causal_rCM_Wan2.1_T2V_1.3B_480p_v1_c1-1_step1.pt": rcm()},
    "Krea Realtime": {"krea-realtime-video-14b.safetensors": prefixed("model.", BF16)},
    "CausVid": {
        "CausVid/autoregressive_checkpoint/model.pt": {
            "generator": prefixed(FSDP),
            "critic": OTHER,
        },
        "wan2.1_14B_causvid.safetensors": BF16,
    },
}
