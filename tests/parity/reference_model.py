"""The Wan 2.1 text-to-video transformer written out in float64 for one sample, with memory.

It knows the weights by their names in the checkpoint and nothing of ComfyUI or of the pack. Memory
is a list of past frames with the position each is to take; their keys come un-rotated and are
rotated in every call. Slow on purpose.
"""

import torch
import torch.nn.functional as F

EPS = 1e-6
HEAD_DIM = 128
AXIS_DIMS = (44, 42, 42)  # channels of a head that turn with time, row and column


def rotate(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of `x [tokens, heads, 128]` at `places [tokens, 3]` (time, row, column)."""
    angles = []
    for axis, dim in enumerate(AXIS_DIMS):
        frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles.append(places[:, axis, None] * frequencies)
    turns = torch.polar(torch.ones(len(x), 64, dtype=torch.float64), torch.cat(angles, dim=1))
    pairs = torch.view_as_complex(x.reshape(*x.shape[:2], 64, 2))
    return torch.view_as_real(pairs * turns[:, None]).reshape(x.shape)


def places_of(times: list[int], rows: int, columns: int) -> torch.Tensor:
    """(time, row, column) of every token of the frames at `times`: frame by frame, row by row."""
    return torch.tensor(
        [(t, r, c) for t in times for r in range(rows) for c in range(columns)],
        dtype=torch.float64,
    )


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Every head of `q [tokens, heads, 128]` over all of `k` and `v`: `[tokens, heads * 128]`."""
    weights = torch.einsum("qhd,khd->hqk", q, k) * HEAD_DIM**-0.5
    return torch.einsum("hqk,khd->qhd", weights.softmax(dim=-1), v).flatten(1)


class Transformer:
    """A Wan 2.1 model as its float64 weights."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        self.weights = {name: weight.double() for name, weight in weights.items()}
        self.dim = weights["patch_embedding.weight"].shape[0]
        self.layers = sum(name.endswith(".self_attn.q.weight") for name in weights)

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (self.dim,), eps=EPS)

    def rms_norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + EPS).rsqrt() * self.weights[f"{name}.weight"]

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), self.dim // HEAD_DIM, HEAD_DIM)

    def time_embedding(self, sigma: float) -> torch.Tensor:
        frequencies = 10000.0 ** (-torch.arange(128, dtype=torch.float64) / 128)
        angles = 1000.0 * sigma * frequencies
        wave = torch.cat([angles.cos(), angles.sin()])
        return self.linear("time_embedding.2", F.silu(self.linear("time_embedding.0", wave)))

    def text_embedding(self, text: torch.Tensor) -> torch.Tensor:
        hidden = F.gelu(self.linear("text_embedding.0", text.double()), approximate="tanh")
        return self.linear("text_embedding.2", hidden)

    def self_attention(self, block: str, x: torch.Tensor, places, memory, memory_places):
        """Attend to memory and the chunk; also return the chunk's un-rotated keys and values."""
        q = self.split(self.rms_norm(f"{block}.norm_q", self.linear(f"{block}.q", x)))
        k = self.split(self.rms_norm(f"{block}.norm_k", self.linear(f"{block}.k", x)))
        v = self.split(self.linear(f"{block}.v", x))
        all_places = torch.cat([memory_places, places])
        all_keys = rotate(torch.cat([key for key, _ in memory] + [k]), all_places)
        all_values = torch.cat([value for _, value in memory] + [v])
        out = attention(rotate(q, places), all_keys, all_values)
        return self.linear(f"{block}.o", out), k, v

    def cross_attention(self, block: str, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        q = self.split(self.rms_norm(f"{block}.norm_q", self.linear(f"{block}.q", x)))
        k = self.split(self.rms_norm(f"{block}.norm_k", self.linear(f"{block}.k", text)))
        v = self.split(self.linear(f"{block}.v", text))
        return self.linear(f"{block}.o", attention(q, k, v))

    def feed_forward(self, block: str, x: torch.Tensor) -> torch.Tensor:
        hidden = F.gelu(self.linear(f"{block}.0", x), approximate="tanh")
        return self.linear(f"{block}.2", hidden)

    def unpatchify(self, x: torch.Tensor, frames: int, rows: int, columns: int) -> torch.Tensor:
        patches = x.reshape(frames, rows, columns, 2, 2, 16)
        return patches.permute(5, 0, 1, 3, 2, 4).reshape(16, frames, 2 * rows, 2 * columns)

    def forward(self, latents: torch.Tensor, sigma: float, text: torch.Tensor, *, times, memory):
        """Flow of `latents [16, n, H, W]` whose frames stand at `times`, and the frames themselves.

        `text` is `[tokens, 4096]`. `memory` is a list of `(time, frame)`; a frame is a list with,
        for every layer, its un-rotated key and its value, both `[tokens, heads, 128]`.
        """
        frames, rows, columns = latents.shape[1], latents.shape[2] // 2, latents.shape[3] // 2
        places = places_of(times, rows, columns)
        memory_places = places_of([time for time, _ in memory], rows, columns).reshape(-1, 3)
        patch, bias = (self.weights[f"patch_embedding.{part}"] for part in ("weight", "bias"))
        x = F.conv3d(latents.double()[None], patch, bias, stride=(1, 2, 2))[0].flatten(1).T
        e = self.time_embedding(sigma)
        steps = self.linear("time_projection.1", F.silu(e)).reshape(6, self.dim)
        text = self.text_embedding(text)
        committed = [[] for _ in range(frames)]
        for i in range(self.layers):
            block = f"blocks.{i}"
            m = self.weights[f"{block}.modulation"][0] + steps
            past = [frame[i] for _, frame in memory]
            y = self.norm(x) * (1 + m[1]) + m[0]
            y, k, v = self.self_attention(f"{block}.self_attn", y, places, past, memory_places)
            x = x + y * m[2]
            affine = (self.weights[f"{block}.norm3.{part}"] for part in ("weight", "bias"))
            y = F.layer_norm(x, (self.dim,), *affine, eps=EPS)
            x = x + self.cross_attention(f"{block}.cross_attn", y, text)
            x = x + self.feed_forward(f"{block}.ffn", self.norm(x) * (1 + m[4]) + m[3]) * m[5]
            for frame, key, value in zip(committed, k.chunk(frames), v.chunk(frames), strict=True):
                frame.append((key, value))
        shift, scale = self.weights["head.modulation"][0] + e
        x = self.linear("head.head", self.norm(x) * (1 + scale) + shift)
        return self.unpatchify(x, frames, rows, columns), committed
