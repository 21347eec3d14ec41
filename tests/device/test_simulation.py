"""The simulation itself: what a real card refuses, runs out of, waits for and orders."""

import pytest
import torch
from device.cards import CONTEXT_BYTES, RUNTIME
from device.clocks import Event, Stream
from device.ledger import LEDGER


@pytest.fixture
def pinned():
    tensor = torch.zeros(1 << 17, dtype=torch.uint8)
    assert torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), tensor.nbytes, 0) == 0
    yield tensor
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaHostUnregister(tensor.data_ptr())


def races() -> list[str]:
    """Those found so far, which are meant here."""
    found = LEDGER.races[:]
    LEDGER.races.clear()
    return found


def on_card(*shape, index: int = 0) -> torch.Tensor:
    return torch.ones(shape, device=f"cuda:{index}")


def test_operands_on_two_devices_are_refused():
    for other in (torch.ones(2), on_card(2, index=1)):
        with pytest.raises(RuntimeError, match="same device"):
            on_card(2) + other
    with pytest.raises(TypeError, match="numpy"):
        on_card(2).numpy()
    assert torch.equal((on_card(2) + torch.tensor(1.0)).cpu(), torch.full((2,), 2.0))
    assert torch.equal(on_card(2)[torch.tensor([0])].cpu(), torch.ones(1))


def test_bytes_are_counted_and_run_out(cards):
    first = on_card(256)
    view = first[:10]
    del first
    assert cards[0].used_bytes == 1024
    cards[0].total_bytes = CONTEXT_BYTES + 2047
    with pytest.raises(torch.OutOfMemoryError):
        on_card(256)
    del view
    assert (cards[0].used_bytes, cards[0].peak_bytes) == (0, 1024)


@pytest.mark.parametrize("wait", [True, False])
def test_what_another_stream_makes_must_be_waited_for(wait):
    side, here = Stream(), torch.cuda.current_stream()
    with torch.cuda.stream(side):
        made = on_card(4)
        event = side.record_event()
    if wait:
        here.wait_event(event)
    made + 1
    made.record_stream(here)
    assert bool(races()) != wait


@pytest.mark.parametrize("wait", [True, False])
def test_another_stream_must_wait_for_what_had_the_memory_before(wait):
    side, here = Stream(), torch.cuda.current_stream()
    on_card(4) + 1
    given = torch.empty(4, device="cuda")
    if wait:
        side.wait_stream(here)
    with torch.cuda.stream(side):
        given.fill_(1.0)
    here.wait_stream(side)
    assert bool(races()) != wait


@pytest.mark.parametrize("recorded", [True, False])
def test_what_another_stream_reads_is_not_given_back_unless_it_is_told(recorded):
    side, source = Stream(), on_card(4)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        source + 1
    if recorded:
        source.record_stream(side)
    del source
    assert len([race for race in races() if "given back" in race]) == (not recorded)


def test_what_a_stream_still_reads_must_not_be_overwritten():
    side, source = Stream(), on_card(8)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        source[:4] + 1
    source[4:] = 0
    assert not races()
    source[:4] = 0
    assert "a write beside the read" in races()[0]
    torch.cuda.current_stream().wait_stream(side)
    source[:4] = 0
    assert not races()


def test_copies_wait_unless_they_are_pinned_and_told_not_to(pinned):
    target = torch.empty(1 << 17, dtype=torch.uint8, device="cuda")
    target.copy_(pinned, non_blocking=True)
    assert not LEDGER.waits
    target.copy_(torch.zeros(1 << 17, dtype=torch.uint8), non_blocking=True)
    target.copy_(pinned)
    target.cpu()
    target.sum().item()
    assert len(LEDGER.waits) == 4


def test_the_host_must_not_touch_pinned_memory_before_the_copy_is_over(pinned):
    on_its_way = pinned.to("cuda", non_blocking=True)
    pinned.fill_(1)
    assert "pinned memory: a write beside the read" in races()[0]
    event = Event()
    event.record()
    event.synchronize()
    pinned.fill_(2)
    assert not races()
    pinned.copy_(on_its_way, non_blocking=True)
    pinned.sum()
    assert "a read beside the write" in races()[0]


def test_what_comes_to_the_host_without_a_wait_is_not_read_before_it_is_there():
    """`to` makes pinned memory for it, so nothing else waits."""
    LEDGER.clear()
    here = on_card(4).to("cpu", non_blocking=True)
    assert not LEDGER.waits
    for read in (here.sum, here.numpy, here.tolist):
        read()
        assert "a read beside the write" in races()[0]
    torch.cuda.synchronize()
    here.tolist()
    assert not races()


def test_pinned_memory_is_not_released_before_the_copy_is_over():
    tensor = torch.zeros(1 << 17)
    torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), tensor.nbytes, 0)
    tensor.to("cuda", non_blocking=True)
    torch.cuda.cudart().cudaHostUnregister(tensor.data_ptr())
    assert "unregistered beside the read" in races()[0]
    assert not RUNTIME.pinned


def test_launches_are_kernels_and_not_views():
    x = on_card(4, 4)
    LEDGER.clear()
    (x.T.reshape(16)[:4] + 1).mul_(2)
    torch._foreach_copy_([x[0], x[1]], [x[2], x[3]])
    assert sum(LEDGER.launches.values()) == 4  # the reshape of a transposed tensor copies
    assert LEDGER.bytes["aten::_foreach_copy_"] == 4 * 16
