"""Computed bytes are the allocated ones, and the reference figures of the design."""

import pytest
import torch
from unit.naive_memory import cleaning, make_memory

from relax_memory.memory.costs import ModelShape, costs
from relax_memory.memory.storage import Storage
from relax_memory.memory.transfer import Transfer
from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory

WAN_1_3B = ModelShape(layers=30, heads=12, head_dim=128, tokens=1560, element_bytes=2)


def test_a_latent_frame_of_wan_takes_0_2875_gb():
    assert WAN_1_3B.frame_bytes == pytest.approx(0.2875e9, rel=1e-3)


def test_a_minute_or_an_hour_costs_the_same():
    bills = []
    for frames in (240, 2400, 14400):
        plan = Plan(RelaxedMemory(), total_frames=frames, chunk_frames=3)
        bills.append(costs(plan, WAN_1_3B, Storage(), rows=1))
    assert bills[0] == bills[1] == bills[2]
    assert bills[0].buffer_bytes == pytest.approx(2.0e9, rel=0.01)


@pytest.mark.parametrize("dtype", ["model", "fp8"])
@pytest.mark.parametrize("policy", [{}, {"tail_frames": 5}, {"sink_frames": 0}])
def test_computed_bytes_are_allocated_bytes(dtype, policy):
    shape = ModelShape(layers=2, heads=3, head_dim=8, tokens=5, element_bytes=4)
    plan = Plan(RelaxedMemory(reservoir_frames=40, **policy), total_frames=90, chunk_frames=3)
    memory = make_memory(plan, rows=2, dtype=dtype, transfer=Transfer(torch.device("cpu")))
    for chunk in plan:
        keys = torch.randn(2, 5 * chunk.length_frames, 3, 8)
        for layer in range(2):
            memory.read(cleaning(chunk), layer, keys, keys)
            if plan.has_chunk(chunk.index + 1):
                memory.commit(chunk, layer, keys, keys)
    bill = costs(plan, shape, Storage(dtype=dtype), rows=2)
    assert memory.bytes == bill.bank_bytes + bill.buffer_bytes
