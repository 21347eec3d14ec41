"""The host's compile node on a model with memory: compiled code never outlives its session.

The node drops every guard on `transformer_options`: code compiled for an ordinary sampler would be
used in a rollout, and the other way round, if what was compiled had looked at the session. Here the
backend runs the traced graphs as they are, with the node's own guards and graph breaks; to compile
them with inductor takes most of a minute, and `benchmarks/gpu.py` does it.
"""

import asyncio
from pathlib import Path

import nodes as host_nodes
import pytest
import tiny
import torch

ROUNDING = 1e-5
BACKEND = "eager"


@pytest.fixture
def compile_model():
    """The host's node, loaded as the host loads its own."""
    path = Path(host_nodes.__file__).parent / "comfy_extras" / "nodes_torch_compile.py"
    assert asyncio.run(host_nodes.load_custom_node(str(path), module_parent="comfy_extras"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield lambda model: host_nodes.NODE_CLASS_MAPPINGS["TorchCompileModel"].execute(model, BACKEND)
    torch._dynamo.reset()


def remembering(kind):
    model = tiny.model(kind, dim=128, layers=1)
    return tiny.node("RelaxForcingMemory", model=model, **tiny.MEMORY)[0]


def rollout(model) -> torch.Tensor:
    latent, _ = tiny.node(
        "RelaxForcingSampler",
        model=model,
        positive=tiny.conditioning(1),
        width=48,
        height=32,
        length=69,
        seed=3,
        steps=2,
        cfg=1.0,
        frames_per_chunk=3,
        batch_size=1,
        autosave=False,
    )
    return latent["samples"]


def ordinary(model) -> torch.Tensor:
    """A sampler that knows no session, on a latent of the size of a chunk."""
    latent, prompt = {"samples": torch.zeros(1, 16, 3, 4, 6)}, tiny.conditioning(1)
    (out,) = host_nodes.common_ksampler(model, 3, 2, 1.0, "euler", "simple", prompt, prompt, latent)
    return out["samples"]


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert (got - expected).abs().max() <= ROUNDING * expected.abs().max()


@pytest.mark.parametrize(
    ("kind", "order"),
    [("wan", (ordinary, rollout, ordinary)), ("causal", (rollout, ordinary, rollout))],
    ids=["ordinary first", "rollout first"],
)
def test_compiled_runs_are_those_of_the_plain_model(kind, order, compile_model):
    plain = remembering(kind)
    compiled = compile_model(plain).result[0]
    with torch.inference_mode():  # as the host runs every node; dynamo guards on it
        for run in order:
            assert_close(run(compiled), run(plain))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
