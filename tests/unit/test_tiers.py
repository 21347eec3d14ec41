"""What goes to and from where frames lie: as little as possible, and what is needed next first."""

import itertools

import pytest
import torch
from unit.naive_memory import HEAD_DIM, HEADS, LAYERS, TOKENS, KeySource, cleaning, make_memory

from relax_memory.memory import storage
from relax_memory.memory.storage import FP8, FP8_MAX, pack, supports_fp8, unpack
from relax_memory.memory.transfer import Transfer
from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory

FRAME_BYTES = 4 * TOKENS * HEADS * HEAD_DIM  # of keys or values, one row, float32


class Noted(Transfer):
    """Copies at once, and notes which way and how many bytes."""

    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.copies = []

    def send(self, copies):
        self.copies += [("send", source.nbytes) for _, source in copies]
        super().send(copies)

    def fetch(self, sources):
        self.copies += [("fetch", source.nbytes) for source in sources]
        return super().fetch(sources)


def copies_of_a_chunk(policy, rows, chunk, dtype="model"):
    """What goes both ways while a chunk is remembered, layer by layer; and its memory."""
    plan, transfer = Plan(policy, total_frames=90, chunk_frames=3), Noted()
    memory = make_memory(plan, rows, dtype=dtype, transfer=transfer)
    source = KeySource(rows)
    for each in itertools.islice(plan, chunk + 1):
        layers = []
        for layer in range(LAYERS):
            keys, values = source(each)
            memory.read(cleaning(each), layer, keys, values)
            transfer.copies.clear()
            memory.commit(each, layer, keys, values)
            layers.append(transfer.copies[:])
    return layers, memory


def test_what_the_next_layer_reads_does_not_queue_behind_what_this_one_stores():
    (first, last), _ = copies_of_a_chunk(RelaxedMemory(reservoir_frames=40), 1, chunk=20)
    ways = [way for way, _ in first]
    last_fetch = len(ways) - 1 - ways[::-1].index("fetch")
    assert "send" in ways
    assert "send" not in ways[:last_fetch]
    assert {way for way, _ in last} == {"send"}


def test_only_rows_that_read_a_frame_fetch_it():
    layers, memory = copies_of_a_chunk(RelaxedMemory(reservoir_frames=40), 4, chunk=20)
    histories = set(memory.selection.history)
    assert len(histories) > 1
    fetched = sum(size for way, size in layers[0] if way == "fetch")
    # The first layer fetches for itself and for the second: keys and values of one frame a row.
    assert fetched == 2 * 2 * 4 * FRAME_BYTES


@pytest.mark.parametrize(("dtype", "moved"), [("model", 0), ("fp8", 1)])
def test_a_frame_that_becomes_a_candidate_moves_only_to_another_precision(dtype, moved):
    policy = RelaxedMemory(tail_frames=5, reservoir_frames=40)
    layers, memory = copies_of_a_chunk(policy, 1, chunk=20, dtype=dtype)
    assert bool(memory._demoted) == bool(moved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0.0, 1e-6, 1.0, 300.0])
def test_fp8_in_few_launches_has_the_bits_of_plain_steps(dtype, size):
    tensor = (size * torch.randn(2, 6, 3, 8, generator=torch.Generator().manual_seed(0))).to(dtype)
    scale = tensor.abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / FP8_MAX
    data = (tensor / scale).to(FP8)
    packed = pack(tensor, "fp8")
    assert torch.equal(packed.scale, scale)
    assert torch.equal(packed.data.view(torch.uint8), data.view(torch.uint8))
    assert torch.equal(unpack(packed, dtype), (data.float() * scale).to(dtype))


def test_running_out_of_memory_is_not_taken_for_a_device_without_fp8(monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(storage, "pack", fail)
    with pytest.raises(torch.OutOfMemoryError):
        supports_fp8(torch.device("cpu"))
