"""The buffer shows memory and chunk as one tensor, whose last frames are the chunk's."""

import pytest
import torch

from relax_memory.memory.buffer import KeyValueBuffer

ROWS, TOKENS, TAIL = 3, 2, (2, 4)  # heads, head_dim


def frames(count, value, rows=ROWS):
    keys = torch.full((rows, count * TOKENS, *TAIL), float(value))
    return keys, -keys


def seen(tensor):
    """The value of each frame in each row; every frame of these tests is constant."""
    per_frame = tensor.unflatten(1, (-1, TOKENS)).flatten(2)
    assert torch.equal(per_frame.amin(-1), per_frame.amax(-1))
    return per_frame.amin(-1).tolist()


@pytest.fixture
def buffer():
    buffer = KeyValueBuffer(layers=2, rows=ROWS, frames=5)
    for layer in range(2):
        buffer.append(layer, 2, *frames(2, 99), past=[])
    return buffer


def test_memory_stands_before_the_chunk(buffer):
    buffer.place(0, [(1, slice(None), frames(1, 7))])
    buffer.place(0, [(2, slice(None), frames(1, 8))])
    keys, values = buffer.append(0, 2, *frames(2, 1), past=[(2, 0)])
    assert seen(keys) == [[7, 8, 1, 1]] * ROWS
    assert seen(values) == [[-7, -8, -1, -1]] * ROWS


def test_the_chunk_replaces_the_one_before_and_leaves_memory_alone(buffer):
    buffer.place(0, [(2, slice(None), frames(1, 8))])
    for value in (1, 2, 3):
        keys, _ = buffer.append(0, 2, *frames(2, value), past=[(1, 0)])
        assert seen(keys) == [[8, value, value]] * ROWS


def test_a_shorter_chunk_may_have_memory_where_a_longer_one_stood(buffer):
    buffer.place(0, [(3, slice(None), frames(1, 8))])
    keys, _ = buffer.append(0, 1, *frames(1, 1), past=[(1, 0)])
    assert seen(keys) == [[8, 1]] * ROWS


def test_rows_may_have_memory_of_their_own(buffer):
    buffer.place(0, [(2, slice(None), frames(1, 5))])
    rows = (slice(0, 1), slice(2, 3))
    buffer.place(0, [(2, row, frames(1, 6, rows=1)) for row in rows])
    keys, values = buffer.append(0, 2, *frames(2, 1), past=[(1, 0)])
    assert seen(keys) == [[6, 1, 1], [5, 1, 1], [6, 1, 1]]
    assert seen(values) == [[-6, -1, -1], [-5, -1, -1], [-6, -1, -1]]


def test_layers_are_apart(buffer):
    buffer.place(0, [(2, slice(None), frames(1, 5))])
    buffer.place(1, [(2, slice(None), frames(1, 6))])
    first, second = (
        buffer.append(layer, 2, *frames(2, layer), past=[(1, 0)])[0] for layer in range(2)
    )
    assert seen(first) == [[5, 0, 0]] * ROWS
    assert seen(second) == [[6, 1, 1]] * ROWS


def test_nothing_is_allocated_or_copied_for_a_read(buffer):
    held = buffer.bytes
    assert held == 2 * 2 * 4 * ROWS * 5 * TOKENS * torch.Size(TAIL).numel()
    reads = [buffer.append(0, 2, *frames(2, value), past=[(3, 0)])[0] for value in (1, 2)]
    assert buffer.bytes == held
    assert reads[0].data_ptr() == reads[1].data_ptr()
    assert reads[0][0].is_contiguous()


def test_what_lies_apart_is_gathered_in_order(buffer):
    for position, value in enumerate((7, 8, 9)):
        buffer.place(0, [(position, slice(None), frames(1, value))])
    keys, values = buffer.append(0, 2, *frames(2, 1), past=[(3, 2), (1, 0)])
    assert seen(keys) == [[7, 9, 1, 1]] * ROWS
    assert seen(values) == [[-7, -9, -1, -1]] * ROWS
    keys, _ = buffer.append(0, 2, *frames(2, 1), past=[(3, 1)])
    assert seen(keys) == [[7, 8, 1, 1]] * ROWS
