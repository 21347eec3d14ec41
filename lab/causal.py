"""A Wan transformer over all chunks of a clip at once, as training a causal model needs it.

Every chunk that is read is there twice: clean, as it is read, and noisy, as it is denoised. Both
read the clean keys and values of the same past frames, at the times of hybrid RoPE, exactly as one
chunk after the other does in a rollout. Uses the host's own layers; replaces self-attention only.
"""

from collections.abc import Sequence
from functools import partial

import torch
from comfy.ldm.wan.model import WanModel, sinusoidal_embedding_1d
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from relax_memory.policies import RelaxedMemory

CLEAN = 0.0  # timestep of the clean pass


class CausalClip:
    """Runs `network` over whole clips.

    Args:
        chunk_frames: latent frames generated together.
        size: height and width of the latents.
        longest_memory: the most past frames that a chunk reads.
    """

    def __init__(
        self, network: WanModel, *, chunk_frames: int, size: tuple[int, int], longest_memory: int
    ) -> None:
        self._network = network
        self._chunk_frames = chunk_frames
        self._tokens = (size[0] // 2) * (size[1] // 2)
        self._longest = longest_memory
        weight = network.patch_embedding.weight
        frames = longest_memory + chunk_frames
        table = network.rope_encode(frames, *size, t_start=-longest_memory, device=weight.device)
        table = table.unflatten(1, (frames, self._tokens))
        self._cosines = table.diagonal(dim1=-2, dim2=-1).flatten(-2)
        self._sines = table.flip(-1).diagonal(dim1=-2, dim2=-1).flatten(-2)
        for module in network.modules():
            if isinstance(module, nn.RMSNorm):
                module.forward = partial(_rms_norm, module)
        for layer, block in enumerate(network.blocks):
            block.self_attn.forward = lambda x, *_, layer=layer, **__: self._attend(x, layer)

    def __call__(
        self,
        clean: Tensor,
        noisy: Tensor,
        sigmas: Tensor,
        text: Tensor,
        memory: Sequence[tuple[int, ...]],
    ) -> Tensor:
        """The flow at every noisy frame, `[B, C, T, h, w]`.

        Args:
            clean, noisy: latents `[B, C, T, h, w]`, `T` a multiple of the chunk.
            sigmas: noise level of every chunk, `[B, chunks]`.
            text: embeddings `[B, tokens, 4096]`.
            memory: for every chunk the past frames it reads, in attention order.
        """
        network = self._network
        read = (frame for past in memory for frame in past)
        clean_chunks = max(read, default=-1) // self._chunk_frames + 1
        clean = clean[:, :, : clean_chunks * self._chunk_frames]
        self._look_up(memory, clean_chunks)
        both = torch.cat([clean, noisy], dim=2)
        x = network.patch_embedding(both)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        none = torch.full_like(sigmas[:, :clean_chunks], CLEAN)
        levels = torch.cat([none, 1000 * sigmas], dim=1)
        times = levels.repeat_interleave(self._chunk_frames, dim=1)
        e = network.time_embedding(sinusoidal_embedding_1d(network.freq_dim, times.flatten()).to(x))
        e = e.reshape(*times.shape, -1)
        e0 = network.time_projection(e).unflatten(2, (6, network.dim))
        context = network.text_embedding(text)
        for block in network.blocks:
            x = block(x, e=e0, freqs=None, context=context)
        flow = network.unpatchify(network.head(x, e), grid)
        return flow[:, :, clean.shape[2] :]

    def _look_up(self, memory: Sequence[tuple[int, ...]], clean_chunks: int) -> None:
        """Which of all frames, first clean and then noisy ones, each chunk reads at what time."""
        own = range(self._chunk_frames)
        self._reads, self._read_times = [], []
        for chunks, begin in ((clean_chunks, 0), (len(memory), clean_chunks * len(own))):
            for index, past in enumerate(memory[:chunks]):
                first = index * len(own)
                self._reads.append([*past, *(begin + first + frame for frame in own)])
                self._read_times += [*RelaxedMemory().times(past, first), *own]
        self._own_times = [*own] * len(self._reads)

    def _attend(self, x: Tensor, layer: int) -> Tensor:
        """Self-attention of `[clean frames, noisy frames]` tokens, `[B, L, dim]`."""
        module = self._network.blocks[layer].self_attn
        shape = (len(x), -1, self._tokens, module.num_heads, module.head_dim)
        read = [frame for frames in self._reads for frame in frames]
        query = self._rotate(module.norm_q(module.q(x)).view(shape), self._own_times)
        key = self._rotate(module.norm_k(module.k(x)).view(shape)[:, read], self._read_times)
        value = module.v(x).view(shape)[:, read].flatten(1, 2).transpose(1, 2)
        lengths = [self._tokens * len(frames) for frames in self._reads]
        chunks = zip(
            query.split(self._tokens * self._chunk_frames, dim=2),
            key.split(lengths, dim=2),
            value.split(lengths, dim=2),
            strict=True,
        )
        out = torch.cat([scaled_dot_product_attention(*chunk) for chunk in chunks], dim=2)
        return module.o(out.transpose(1, 2).flatten(2))

    def _rotate(self, x: Tensor, times: Sequence[int]) -> Tensor:
        """`[B, frames, tokens, heads, D]` at these times, as `[B, heads, L, D]`."""
        places = [time + self._longest for time in times]
        swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        turned = x * self._cosines[:, places].to(x) + swapped * self._sines[:, places].to(x)
        return turned.flatten(1, 2).transpose(1, 2)


def _rms_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """In the dtype of `x`; torch's own is twice as slow where the weights are wider."""
    factor = torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps)
    return x * factor * norm.weight.to(x.dtype)
