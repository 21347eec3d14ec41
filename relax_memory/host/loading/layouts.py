"""Weights of a Wan model under the host's names and in the host's shapes, whoever wrote them.

Two other layouts are known: that of diffusers, and patch embeddings that are matrices, as in rCM.
What is not known keeps its name. Knows no family and no file.
"""

import re
from collections.abc import Mapping
from math import prod

from torch import Tensor

_DIFFUSERS = tuple(
    (re.compile(rf"(^|(?<=\.)){ours}(?=\.|$)"), hosts)
    for ours, hosts in (
        (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
        (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
        (r"condition_embedder\.time_proj", "time_projection.1"),
        (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
        (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
        (r"condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
        (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
        (r"condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
        (r"condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
        (r"condition_embedder\.image_embedder\.pos_embed", "img_emb.emb_pos"),
        (r"attn1\.to_q", "self_attn.q"),
        (r"attn1\.to_k", "self_attn.k"),
        (r"attn1\.to_v", "self_attn.v"),
        (r"attn1\.to_out\.0", "self_attn.o"),
        (r"attn1\.norm_q", "self_attn.norm_q"),
        (r"attn1\.norm_k", "self_attn.norm_k"),
        (r"attn2\.to_q", "cross_attn.q"),
        (r"attn2\.to_k", "cross_attn.k"),
        (r"attn2\.to_v", "cross_attn.v"),
        (r"attn2\.to_out\.0", "cross_attn.o"),
        (r"attn2\.norm_q", "cross_attn.norm_q"),
        (r"attn2\.norm_k", "cross_attn.norm_k"),
        (r"attn2\.add_k_proj", "cross_attn.k_img"),
        (r"attn2\.add_v_proj", "cross_attn.v_img"),
        (r"attn2\.norm_added_k", "cross_attn.norm_k_img"),
        (r"ffn\.net\.0\.proj", "ffn.0"),
        (r"ffn\.net\.2", "ffn.2"),
        (r"(?<=blocks\.\d\.)norm2", "norm3"),
        (r"(?<=blocks\.\d\d\.)norm2", "norm3"),
        (r"(?<=blocks\.\d\.)scale_shift_table", "modulation"),
        (r"(?<=blocks\.\d\d\.)scale_shift_table", "modulation"),
        (r"proj_out", "head.head"),
        (r"scale_shift_table", "head.modulation"),
    )
)
_PATCH, _WHOLE_DIFFUSERS = "patch_embedding.weight", ("scale_shift_table", "proj_out.weight")
_PATCH_SIZE = (1, 2, 2)  # frames, height and width


def from_diffusers(name: str) -> str:
    """A weight's or a layer's name as the host has it; one that diffusers does not have stays."""
    for theirs, hosts in _DIFFUSERS:
        name = theirs.sub(hosts, name)
    return name


def has_linear_patches(weights: Mapping[str, Tensor]) -> bool:
    """Whether a model among these embeds patches by a matrix `[dim, c kt kh kw]`."""
    return any(name.endswith(_PATCH) and weights[name].ndim == 2 for name in weights)


def as_the_host_has_them(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights in the host's layout. A part of a diffusers model stays as it is."""
    if all(name in weights for name in _WHOLE_DIFFUSERS):
        weights = {from_diffusers(name): weight for name, weight in weights.items()}
    matrix = weights.get(_PATCH)
    if matrix is not None and matrix.ndim == 2 and matrix.shape[1] % prod(_PATCH_SIZE) == 0:
        weights = {**weights, _PATCH: matrix.reshape(len(matrix), -1, *_PATCH_SIZE)}
    return dict(weights)
