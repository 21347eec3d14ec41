"""A memory of one row that keeps every frame and rotates it in every read."""

import math

import torch

from relax_memory.memory.buffer import KeyValueBuffer
from relax_memory.memory.recall import Memory
from relax_memory.passes import Pass

LAYERS, TOKENS, HEADS, HEAD_DIM = 2, 2, 2, 4


def rotated(keys, time):
    """RoPE with one frequency."""
    even, odd = keys.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = math.cos(time), math.sin(time)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def rotate(keys, times):
    """In place, each frame to its time."""
    for frame, time in zip(keys.chunk(len(times), dim=1), times, strict=True):
        frame.copy_(rotated(frame, time))


def make_memory(plan, rows, layers=LAYERS, **tier):
    """A memory of our own, in a buffer of its own."""
    buffer = KeyValueBuffer(layers=layers, rows=rows, frames=plan.buffer_frames, rotate=rotate)
    return Memory(plan, buffer, rows=slice(0, rows), **tier)


class NaiveMemory:
    """Keys and values of all frames, un-rotated, by layer and frame."""

    def __init__(self, policy):
        self._policy = policy
        self._frames = {}

    def history(self, roles):
        scores = {frame: self._score(frame, roles) for frame in roles.candidates}
        best = sorted(scores, key=scores.get, reverse=True)
        return tuple(sorted(best[: roles.history_frames]))

    def _score(self, frame, roles):
        sink, tail = self._direction(roles.sink), self._direction(roles.tail)
        weight = getattr(self._policy, "redundancy_weight", 0.0)  # as `Policy.scores` has it
        return self._direction([frame]) @ (sink - weight * tail)

    def _direction(self, frames):
        if not frames:
            return torch.zeros(HEAD_DIM, dtype=torch.float64)
        keys = torch.cat([self._frames[0, frame][0] for frame in frames]).double()
        mean = keys.mean(dim=(0, 1))
        return mean / mean.norm()

    def read(self, pass_, layer, history, keys, values):
        chunk, wanted = pass_.chunk, self._policy.reads(pass_, layer)
        roles = {"sink": chunk.roles.sink, "history": history, "tail": chunk.roles.tail}
        frames = [(frame, role in wanted) for role in roles for frame in roles[role]]
        times = range(-len(frames), 0)
        if self._policy.rope == "absolute":
            times = [frame - chunk.first_frame for frame, _ in frames]
        read = [
            (frame, time) for (frame, is_read), time in zip(frames, times, strict=True) if is_read
        ]
        past = [self._frames[layer, frame] for frame, _ in read]
        there = [rotated(key, time) for (key, _), (_, time) in zip(past, read, strict=True)]
        return torch.cat([*there, keys]), torch.cat([*(value for _, value in past), values])

    def commit(self, chunk, layer, keys, values):
        pairs = zip(keys.split(TOKENS), values.split(TOKENS), strict=True)
        for frame, pair in zip(chunk.frames, pairs, strict=True):
            self._frames[layer, frame] = [tensor.clone() for tensor in pair]


class KeySource:
    """Random keys and values of one layer `[rows, L, heads, head_dim]`."""

    def __init__(self, rows, seed=0):
        self._rows = rows
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, chunk):
        shape = (self._rows, chunk.length_frames * TOKENS, HEADS, HEAD_DIM)
        return torch.randn(2, *shape, generator=self._generator).unbind()


def denoising(chunk):
    """A noisy pass of a chunk."""
    return Pass(chunk=chunk, step=0, sigma=1.0)


def cleaning(chunk):
    """The clean pass of a chunk."""
    return Pass(chunk=chunk, step=4, sigma=0.0, remembered=True)
