"""What the demo's transformer is trained on is what it meets in a rollout."""

import tiny
import torch
from comfy.latent_formats import Wan21
from comfy.ldm.wan.model import WanModel
from comfy.ops import manual_cast

from demo.causal import CausalClip
from demo.train_model import CHUNK_FRAMES, FRAMES, SIZE
from relax_memory.noise import chunk_noise

SEED = 5


def clip_of(network):
    longest = FRAMES - CHUNK_FRAMES
    return CausalClip(network, chunk_frames=CHUNK_FRAMES, size=SIZE, longest_memory=longest)


def network():
    shape = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 3}
    model = WanModel(operations=manual_cast, dtype=torch.float32, **shape)
    model.load_state_dict(tiny.state_dict())
    return model


@torch.no_grad()
def test_training_computes_what_a_rollout_computes():
    latent, trace = tiny.node(
        "RelaxForcingSampler",
        model=tiny.remembering(),
        positive=tiny.conditioning(0),
        width=8 * SIZE[1],
        height=8 * SIZE[0],
        length=4 * (FRAMES - 1) + 1,
        seed=SEED,
        steps=1,
        cfg=1.0,
        frames_per_chunk=CHUNK_FRAMES,
        batch_size=1,
        autosave=False,
    )
    assert any(chunk.history[0] for chunk in trace.chunks)
    memory = [(*chunk.sink, *chunk.history[0], *chunk.tail) for chunk in trace.chunks]
    firsts = range(0, FRAMES, CHUNK_FRAMES)
    shape = (16, CHUNK_FRAMES, *SIZE)
    draws = [chunk_noise(SEED, samples=1, first_frame=f, draw=0, shape=shape) for f in firsts]
    noise = torch.cat(draws, dim=2)
    clean = Wan21().process_in(latent["samples"])
    flow = clip_of(network())(
        clean, noise, torch.ones(1, len(memory)), tiny.conditioning(0)[0][0], memory
    )
    assert (noise - flow - clean).abs().max() < 1e-4 * clean.abs().max()
