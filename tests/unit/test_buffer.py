"""The buffer shows memory and chunk as one tensor, whose last frames are the chunk's."""

import pytest
import torch

from relax_memory.memory.buffer import KeyValueBuffer, Placed

ROWS, TOKENS, TAIL = 3, 2, (2, 4)  # heads, head_dim


def frames(count, value, rows=ROWS):
    keys = torch.full((rows, count * TOKENS, *TAIL), float(value))
    return keys, -keys


def put(buffer, layer, position, value, rows=(slice(0, ROWS),), time=0):
    """A frame of one value, which as a key is turned by adding its time."""
    placed = [
        Placed(position, each, time, frames(1, value, each.stop - each.start)) for each in rows
    ]
    buffer.place(layer, placed)


def turn(keys, times):
    for frame, time in zip(keys.chunk(len(times), dim=1), times, strict=True):
        frame += time


def seen(tensor):
    """The value of each frame in each row; every frame of these tests is constant."""
    per_frame = tensor.unflatten(1, (-1, TOKENS)).flatten(2)
    assert torch.equal(per_frame.amin(-1), per_frame.amax(-1))
    return per_frame.amin(-1).tolist()


@pytest.fixture
def buffer():
    buffer = KeyValueBuffer(layers=2, rows=ROWS, frames=5, rotate=turn)
    for layer in range(2):
        buffer.append(layer, 2, *frames(2, 99), past=[])
    return buffer


def test_memory_stands_before_the_chunk(buffer):
    put(buffer, 0, 1, 7)
    put(buffer, 0, 2, 8)
    keys, values = buffer.append(0, 2, *frames(2, 1), past=[(2, 0)])
    assert seen(keys) == [[7, 8, 1, 1]] * ROWS
    assert seen(values) == [[-7, -8, -1, -1]] * ROWS


def test_the_chunk_replaces_the_one_before_and_leaves_memory_alone(buffer):
    put(buffer, 0, 2, 8)
    for value in (1, 2, 3):
        keys, _ = buffer.append(0, 2, *frames(2, value), past=[(1, 0)])
        assert seen(keys) == [[8, value, value]] * ROWS


@pytest.mark.parametrize("frames_then", [4, 5, 8])
def test_with_another_size_memory_stands_where_it_stood(buffer, frames_then):
    for layer in range(2):
        put(buffer, layer, -4, 7)
        put(buffer, layer, -3, 8)
    buffer.resize(frames_then)
    for layer in range(2):
        put(buffer, layer, -3, 9)
        keys, values = buffer.append(layer, 2, *frames(2, 1), past=[(2, 0)])
        assert seen(keys) == [[7, 9, 1, 1]] * ROWS
        assert seen(values) == [[-7, -9, -1, -1]] * ROWS
    assert buffer.bytes == 2 * 2 * ROWS * frames_then * TOKENS * 8 * 4


def test_a_shorter_chunk_may_have_memory_where_a_longer_one_stood(buffer):
    put(buffer, 0, 3, 8)
    keys, _ = buffer.append(0, 1, *frames(1, 1), past=[(1, 0)])
    assert seen(keys) == [[8, 1]] * ROWS


def test_rows_may_have_memory_of_their_own(buffer):
    put(buffer, 0, 2, 5)
    rows = (slice(0, 1), slice(2, 3))
    put(buffer, 0, 2, 6, rows)
    keys, values = buffer.append(0, 2, *frames(2, 1), past=[(1, 0)])
    assert seen(keys) == [[6, 1, 1], [5, 1, 1], [6, 1, 1]]
    assert seen(values) == [[-6, -1, -1], [-5, -1, -1], [-6, -1, -1]]


def test_layers_are_apart(buffer):
    put(buffer, 0, 2, 5)
    put(buffer, 1, 2, 6)
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
        put(buffer, 0, position, value)
    keys, values = buffer.append(0, 2, *frames(2, 1), past=[(3, 2), (1, 0)])
    assert seen(keys) == [[7, 9, 1, 1]] * ROWS
    assert seen(values) == [[-7, -9, -1, -1]] * ROWS
    keys, _ = buffer.append(0, 2, *frames(2, 1), past=[(3, 1)])
    assert seen(keys) == [[7, 8, 1, 1]] * ROWS


def test_what_stands_side_by_side_is_turned_at_once_each_frame_to_its_time():
    turned = []

    def noting(keys, times):
        turned.append((len(keys), times))
        turn(keys, times)

    buffer = KeyValueBuffer(layers=1, rows=ROWS, frames=5, rotate=noting)
    buffer.append(0, 2, *frames(2, 99), past=[])
    each = [(position, row) for position in (0, 1) for row in range(ROWS)]
    times = {place: 10 + place[0] for place in each} | {(1, 2): 20}
    buffer.place(
        0, [Placed(p, slice(r, r + 1), times[p, r], frames(1, r, rows=1)) for p, r in each]
    )
    assert sorted(turned) == [(1, (10, 20)), (2, (10, 11))]
    keys, values = buffer.append(0, 2, *frames(2, 5), past=[(3, 1)])
    assert seen(keys) == [[10, 11, 5, 5], [11, 12, 5, 5], [12, 22, 5, 5]]
    assert seen(values) == [[0, 0, -5, -5], [-1, -1, -5, -5], [-2, -2, -5, -5]]


def test_streams_write_and_read_their_own_rows(buffer):
    put(buffer, 0, 2, 5)
    for first, value in ((0, 1), (1, 2)):
        rows = slice(first, first + 2)
        keys, _ = buffer.append(0, 2, *frames(2, value, rows=2), past=[(1, 0)], rows=rows)
        assert seen(keys) == [[5, value, value]] * 2
    assert seen(buffer.append(0, 2, *frames(2, 3), past=[(1, 0)])[0]) == [[5, 3, 3]] * ROWS
    assert buffer.bytes_of(slice(0, 2)) * ROWS == buffer.bytes * 2
