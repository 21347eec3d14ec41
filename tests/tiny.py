"""Small real Wan 2.1 models with weights from a fixed seed, loaded by the host's own loader.

The host must be importable; a missing host is an error here, never a reason to skip.
"""

import asyncio
import functools
import sys

import comfy.options
import torch
import utils.extra_config  # noqa: F401  (first, as in main.py: nodes.py of 0.24 hides that folder)
from comfy.cli_args import args

args.cpu = True

import comfy.sd  # noqa: E402
import nodes as host_nodes  # noqa: E402
from conftest import ROOT  # noqa: E402
from small import CAUSAL_METADATA, TEXT_DIM  # noqa: E402
from small import transformer as state_dict  # noqa: E402


@functools.cache
def pack() -> dict:
    """Node classes of this pack by node id, loaded as a user's host loads them."""
    assert asyncio.run(host_nodes.load_custom_node(str(ROOT))), "the host could not load the pack"
    classes = host_nodes.NODE_CLASS_MAPPINGS
    return {name: cls for name, cls in classes.items() if name.startswith("RelaxForcing")}


def part(name: str):
    """A module of this pack, as the host has loaded it: tests may have imported it beside that."""
    root = pack()["RelaxForcingSampler"].__module__.rpartition(".nodes")[0]
    return sys.modules[f"{root}.relax_memory.{name}"]


def node(node_id: str, **inputs):
    """Run one node of the pack as the host does and return its output tuple."""
    cls = pack()[node_id]
    return cls.EXECUTE_NORMALIZED(**inputs).result


@functools.cache
def model(kind: str = "wan", dim: int = 256, layers: int = 3, seed: int = 0):
    """A host ModelPatcher in float32 of the stock WanModel or the host's CausalWanModel."""
    return comfy.sd.load_diffusion_model_state_dict(
        state_dict(dim, layers, seed),
        model_options={"dtype": torch.float32},
        metadata=CAUSAL_METADATA if kind == "causal" else None,
    )


def conditioning(seed: int, tokens: int = 8, batch: int = 1) -> list:
    """Conditioning as CLIPTextEncode gives it: `[[embeddings [B, L, 4096], options]]`."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(batch, tokens, TEXT_DIM, generator=generator), {}]]


MEMORY = {
    "sink_frames": 2,
    "history_frames": 1,
    "tail_frames": 1,
    "history_candidates": 4,
    "redundancy_weight": 2.0,
    "reservoir_frames": 24,
    "rope": "hybrid",
    "reservoir_device": "gpu",
    "reservoir_dtype": "model",
}


def remembering(kind: str = "wan", **settings):
    """The small model with a memory node: the paper's settings, but a reservoir of 24 frames."""
    return node("RelaxForcingMemory", model=model(kind), **MEMORY | settings)[0]
