"""The benchmark of a GPU, rehearsed on a card that has none of its speed: it must run there once.

Times are those of the simulation, and mean nothing.
"""

import sys
from dataclasses import replace

import pytest
import torch
from conftest import ROOT
from device import host  # noqa: F401  (cards before the host)
from device.cards import CARDS


@pytest.fixture(scope="module")
def gpu():
    """The benchmark; it puts the host first on the path, which is undone."""
    path = sys.path[:]
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import gpu

        yield gpu
    finally:
        sys.path[:] = path


@pytest.fixture
def bench(gpu, monkeypatch):
    """At the smallest size at which all sections have chunks to measure, of two steps."""
    monkeypatch.setattr(gpu.common, "SIGMAS", (1.0, 0.625, 0.0))
    assert gpu.DEVICE.type == "cuda"
    scale = replace(
        gpu.TOY,
        shape=replace(gpu.TOY.shape, layers=1, width=32),
        reservoir_frames=9,
        steady_chunks=1,
        split_chunks=(1, 1),
        window_chunks=(1, 2),
        native_split_frames=15,
        decoded_chunks=1,
    )
    yield gpu.Bench(scale)
    gpu.common._weights.cache_clear()


def test_relaxed_memory_its_rivals_and_tiers_take_turns(bench):
    rivals = bench.rivals()
    assert rivals.keys() == {"relaxed", "dense window", "native"}
    assert rivals["relaxed"]["chunks_measured"] == rivals["dense window"]["chunks_measured"] > 1
    assert "cpu_slower_percent" in bench.tiers()


def test_peaks_are_counted_against_the_promise(bench):
    memory = bench.memory()
    assert len(memory) == 4
    for figures in memory.values():
        assert 0 < figures["peak_bytes"] < CARDS[0].total_bytes
        assert figures["promised_bytes"] > 0


def test_parts_of_a_chunk_and_decoding_are_timed(bench):
    assert {"relaxed", "dense window"} < bench.split().keys()
    assert bench.kernel()["window_over_relaxed"] > 0
    assert bench.decoding()["seconds_per_chunk"].keys() == {
        "sampling alone",
        "decoding alone",
        "in turn",
    }


def test_what_no_longer_fits_is_left_out_by_name(gpu):
    left = gpu.attempt(lambda: pytest.fail("it was run"), needed=1.0, left=0.4)
    assert left == {"skipped": "takes about 1.0 minutes, of which 0.4 are left"}
    assert sum(gpu.MINUTES.values()) < 6


def test_the_last_program_finds_torchs_cuda_graphs(gpu):
    """Torch has them for the thread that imports them first, and a new one has none."""
    from torch._inductor.cudagraph_trees import get_container

    clocks = [gpu.TurnClock() for _ in range(2)]
    gpu.in_turns({clocks[0]: list, clocks[1]: lambda: get_container(0)})


def test_one_program_that_fails_lets_the_others_end(gpu):
    ended = []

    def run(clock, chunks: int):
        for _ in range(chunks * (len(gpu.SIGMAS) - 1)):
            clock()
        ended.append(chunks)

    clocks = [gpu.TurnClock() for _ in range(3)]
    programs = {clock: lambda c=clock, n=n: run(c, n) for n, clock in enumerate(clocks[:2], 2)}
    programs[clocks[2]] = lambda: torch.ones(2) + torch.ones(3)
    with pytest.raises(RuntimeError, match="size of tensor"):
        gpu.in_turns(programs)
    assert ended == [2, 3]
    assert [len(clock.seconds) for clock in clocks] == [2, 3, 0]
