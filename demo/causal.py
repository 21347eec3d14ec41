"""A Wan transformer over all chunks of a clip at once, as training a causal model needs it.

Every chunk is there twice: clean, as later chunks remember it, and noisy, as it is denoised. Both
read the clean keys and values of the same past frames, at the times of hybrid RoPE, exactly as one
chunk after the other does in a rollout. Uses the host's own layers; replaces self-attention only.
"""

from collections.abc import Sequence

import torch
from comfy.ldm.wan.model import WanModel, sinusoidal_embedding_1d
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from relax_memory.rope import memory_times

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
        self._rotation = table.unflatten(1, (frames, self._tokens))
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
        self._memory = memory
        both = torch.cat([clean, noisy], dim=2)
        x = network.patch_embedding(both)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        levels = torch.cat([torch.full_like(sigmas, CLEAN), 1000 * sigmas], dim=1)
        times = levels.repeat_interleave(self._chunk_frames, dim=1)
        e = network.time_embedding(sinusoidal_embedding_1d(network.freq_dim, times.flatten()).to(x))
        e = e.reshape(*times.shape, -1)
        e0 = network.time_projection(e).unflatten(2, (6, network.dim))
        context = network.text_embedding(text)
        for block in network.blocks:
            x = block(x, e=e0, freqs=None, context=context)
        flow = network.unpatchify(network.head(x, e), grid)
        return flow[:, :, clean.shape[2] :]

    def _attend(self, x: Tensor, layer: int) -> Tensor:
        """Self-attention of `[clean frames, noisy frames]` tokens, `[B, L, dim]`."""
        module = self._network.blocks[layer].self_attn
        shape = (*x.shape[:2], module.num_heads, module.head_dim)
        frames = (2, -1, self._tokens)  # clean or noisy, frame, token
        query = module.norm_q(module.q(x)).view(shape).unflatten(1, frames)
        key = module.norm_k(module.k(x)).view(shape).unflatten(1, frames)
        value = module.v(x).view(shape).unflatten(1, frames)
        outputs = []
        for index, read in enumerate(self._memory):
            first = index * self._chunk_frames
            own = range(first, first + self._chunk_frames)
            times = (*memory_times(read, first, "hybrid"), *range(self._chunk_frames))
            for noisy in (0, 1):
                source = [(0, frame) for frame in read] + [(noisy, frame) for frame in own]
                kinds, places = (list(part) for part in zip(*source, strict=True))
                outputs.append(
                    scaled_dot_product_attention(
                        self._rotate(query[:, noisy, own.start : own.stop], times[-len(own) :]),
                        self._rotate(key[:, kinds, places], times),
                        value[:, kinds, places].flatten(1, 2).transpose(1, 2),
                    )
                )
        clean = torch.cat(outputs[0::2], dim=2)
        out = torch.cat([clean, *outputs[1::2]], dim=2)
        return module.o(out.transpose(1, 2).flatten(2))

    def _rotate(self, x: Tensor, times: Sequence[int]) -> Tensor:
        """`[B, frames, tokens, heads, D]` at these times, as `[B, heads, L, D]`."""
        places = [time + self._longest for time in times]
        rotation = self._rotation[:, places].to(x.dtype)
        pairs = x.unflatten(-1, (-1, 1, 2))
        turned = rotation[..., 0] * pairs[..., 0] + rotation[..., 1] * pairs[..., 1]
        return turned.flatten(-2).flatten(1, 2).transpose(1, 2)
