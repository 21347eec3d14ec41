"""The reference itself: its transformer against the host's, its memory against hand-made cases."""

import functools

import pytest
import tiny
import torch
from comfy.latent_formats import Wan21
from parity import reference
from parity.memories.window import Window
from parity.reference import Choice, Memory, Relaxed
from parity.reference_model import Transformer

TEXT = tiny.conditioning(5, tokens=7)[0][0]


@functools.cache
def transformer() -> Transformer:
    return Transformer(tiny.state_dict())


def chunk(seed: int, frames: int = 3) -> torch.Tensor:
    return torch.randn(1, 16, frames, 6, 8, generator=torch.Generator().manual_seed(seed))


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("sigma", [1.0, 0.8333, 0.0])
def test_a_chunk_without_memory_is_the_hosts_forward(sigma):
    host = tiny.model("wan").model.diffusion_model
    with torch.no_grad():
        expected = host(chunk(1), torch.tensor([1000 * sigma]), TEXT, transformer_options={})
    got, _ = transformer().forward(chunk(1)[0], sigma, TEXT[0], times=[0, 1, 2], memory=[])
    assert relative_error(expected[0].double(), got) < 1e-5


def test_dense_memory_is_the_hosts_key_value_cache():
    host = tiny.model("causal").model.diffusion_model
    caches = host.init_kv_caches(1, 6 * 12, "cpu", torch.float32)
    texts = host.init_crossattn_caches(1, "cpu", torch.float32)
    with torch.no_grad():
        host.forward_block(chunk(1), torch.zeros(1, 3), TEXT, 0, caches, texts)
        times = torch.full((1, 3), 625.0)
        expected = host.forward_block(chunk(2), times, TEXT, 3, caches, texts)
    _, past = transformer().forward(chunk(1)[0], 0.0, TEXT[0], times=[0, 1, 2], memory=[])
    got, _ = transformer().forward(
        chunk(2)[0], 0.625, TEXT[0], times=[3, 4, 5], memory=list(enumerate(past))
    )
    assert relative_error(expected[0].double(), got) < 1e-5


def test_only_differences_of_time_matter():
    _, past = transformer().forward(chunk(1)[0], 0.0, TEXT[0], times=[0, 1, 2], memory=[])
    at = {
        shift: transformer().forward(
            chunk(2)[0],
            0.625,
            TEXT[0],
            times=[t + shift for t in (3, 4, 5)],
            memory=[(t + shift, frame) for t, frame in enumerate(past)],
        )[0]
        for shift in (-3, 0, 1000)
    }
    assert relative_error(at[-3], at[0]) < 1e-12
    assert relative_error(at[1000], at[0]) < 1e-10


def test_latents_convert_as_in_the_host():
    latents = chunk(3)
    host = Wan21()
    assert (
        relative_error(reference.to_model(latents[0]), host.process_in(latents)[0].double()) < 1e-6
    )
    assert (
        relative_error(reference.from_model(reference.to_model(latents[0])), latents[0].double())
        < 1e-12
    )


def test_noise_is_its_own_for_seed_sample_frame_and_draw():
    shape = (16, 3, 2, 2)
    base = reference.noise(7, 0, 9, 2, shape)
    assert torch.equal(base, reference.noise(7, 0, 9, 2, shape))
    for other in [(8, 0, 9, 2), (7, 1, 9, 2), (7, 0, 10, 2), (7, 0, 9, 3)]:
        assert not torch.equal(base, reference.noise(*other, shape))
    assert abs(float(base.mean())) < 0.2 and abs(float(base.std()) - 1) < 0.2


def memory_of(settings, keys: list[float]) -> Memory:
    """A memory whose frames have layer-0 keys at the given angles (one token, one head)."""
    memory = Memory(settings)
    angles = torch.tensor(keys, dtype=torch.float64)
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    memory.commit(list(range(len(keys))), [[(point.view(1, 1, 2), None)] for point in points])
    return memory


def test_steady_state_candidates_lie_58_44_30_and_16_frames_back():
    memory = memory_of(Relaxed(), [0.0] * 300)
    memory.make_room(3)
    assert len(memory.cached) == 117
    assert [300 - frame for frame in memory.choose().candidates] == [58, 44, 30, 16]


@pytest.mark.parametrize(
    ("middle", "wanted", "places"),
    [
        (2, 4, [1]),
        (3, 4, [1]),
        (4, 4, [2]),
        (5, 4, [2, 3]),
        (9, 4, [4, 5, 6, 7]),
        (9, 1, [4]),
        (9, 2, [4, 6]),
        (114, 4, [57, 71, 85, 99]),
    ],
)
def test_candidates_by_hand(middle, wanted, places):
    assert reference.candidate_places(middle, wanted) == places


def test_full_reservoir_keeps_the_sinks_and_the_newest():
    memory = memory_of(Relaxed(reservoir=9), [0.0] * 20)
    memory.make_room(3)
    assert memory.cached == [0, 1, 16, 17, 18, 19]


def test_history_is_like_the_sink_and_unlike_the_tail():
    angles = [0.0] * 2 + [3.0] * 3 + [0.2, 1.5, 3.0] + [1.5, 1.5]
    choice = memory_of(Relaxed(), angles).choose()
    assert choice.candidates == (5, 6, 7)
    expected = [torch.tensor(a).cos() - 2 * torch.tensor(a - 1.5).cos() for a in (0.2, 1.5, 3.0)]
    assert choice.scores == pytest.approx([float(x) for x in expected], abs=1e-6)
    assert choice.history == (5,)


def test_a_longer_history_is_in_temporal_order():
    angles = [0.0] * 2 + [3.0] * 3 + [0.2, 1.5, 0.0] + [1.5, 1.5]
    assert memory_of(Relaxed(history=2), angles).choose().history == (5, 7)


def test_few_frames_are_all_read():
    assert memory_of(Relaxed(), [0.0] * 4).choose() == Choice(sink=(0, 1), history=(2,), tail=(3,))
    assert memory_of(Relaxed(), [0.0] * 3).choose() == Choice(sink=(0, 1), history=(), tail=(2,))
    assert memory_of(Relaxed(), []).choose() == Choice(sink=(), history=(), tail=())


def test_hybrid_puts_sink_and_history_before_the_tail():
    choice = Choice(sink=(0, 1), history=(7,), tail=(14,))
    placed = memory_of(Relaxed(), [0.0] * 15).placed(choice, [15, 16, 17])
    assert [time for time, _ in placed] == [11, 12, 13, 14]
    placed = memory_of(Relaxed(rope="absolute"), [0.0] * 15).placed(choice, [15, 16, 17])
    assert [time for time, _ in placed] == [0, 1, 7, 14]


def test_window_reads_sinks_and_the_newest():
    memory = memory_of(Window(sink_frames=1, window_frames=3), [0.0] * 10)
    assert memory.choose() == Choice(sink=(0,), history=(), tail=(7, 8, 9))
    assert [time for time, _ in memory.placed(memory.choose(), [10])] == [6, 7, 8, 9]
    assert memory_of(Window(window_frames=0), [0.0] * 10).choose().tail == tuple(range(10))


def test_given_frames_come_first_with_their_remainder():
    assert reference.chunks_of(0, 5, 3) == [[0, 1, 2], [3, 4, 5]]
    assert reference.chunks_of(4, 6, 3) == [[0], [1, 2, 3], [4, 5, 6]]
    assert reference.chunks_of(2, 2, 3) == [[0, 1]]
