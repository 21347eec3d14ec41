"""Trains the small causal Wan 2.1 transformer and writes `demo/models/model.safetensors`.

Flow matching on whole clips at once (`lab/causal.py`), with the memory of a random policy, so that
the model knows short and long memories. Mostly the past that it reads is not the true one but what
the model itself makes of it, so that its own errors do not carry it away in a long rollout (the
idea of Resampling Forcing, arXiv 2512.15702).

Where things begin is not in the text, so the noise that a first chunk starts from tells it
(`lab/cues.py`). To read it is learnt first, from many first chunks alone. A thing that the past
does not show any more is told in the same way: what a rollout lost comes back somewhere.
`python run.py train model`
"""

import argparse
import random
import sys
from dataclasses import dataclass

import torch
from comfy.cli_args import args
from safetensors.torch import save_file
from torch import Tensor

args.cpu = not torch.cuda.is_available()  # before the host looks for a GPU

import comfy.ops  # noqa: E402
from comfy.ldm.wan.model import WanModel  # noqa: E402

from demo.text import embed, tokens  # noqa: E402
from lab.causal import CausalClip  # noqa: E402
from lab.clips import FRAMES, choose, shortened, still  # noqa: E402
from lab.cues import Cues  # noqa: E402
from lab.train_vae import FOLDER  # noqa: E402
from lab.training import DEVICE, LOGS, Schedule, initialise, part_of, train  # noqa: E402

FILE = FOLDER / "model.safetensors"
NETWORK = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 4}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What steps see: first chunks alone, or whole clips but for every so manyth step."""

    steps: int
    first_chunks_every: int = 1
    own_past: float = 0.0  # how often the past is made by the model
    forgotten: float = 0.0  # how often a thing is missing from the past
    absent: bool = False  # as if it had never been there, not erased, which leaves traces
    pure: float = 0.25  # how often a later chunk is noise alone, as each is at first
    crowded: bool = False  # more clips of two things
    apart: bool = False  # which begin apart


PHASES = (
    Phase(steps=3500),
    Phase(steps=1000, first_chunks_every=2),
    Phase(steps=9500, first_chunks_every=2, own_past=0.4),
    Phase(steps=3000, first_chunks_every=4, own_past=0.5, forgotten=0.3),
    Phase(steps=5000, first_chunks_every=4, own_past=0.5, forgotten=0.5, crowded=True),
    Phase(
        steps=5000,
        first_chunks_every=3,
        own_past=0.5,
        forgotten=0.5,
        crowded=True,
        apart=True,
    ),
    Phase(
        steps=7000,
        first_chunks_every=4,
        own_past=0.5,
        forgotten=0.8,
        pure=0.6,
        crowded=True,
        apart=True,
    ),
    Phase(
        steps=4000,
        first_chunks_every=4,
        own_past=0.5,
        forgotten=0.8,
        absent=True,
        pure=0.6,
        crowded=True,
        apart=True,
    ),
)
SCHEDULE = Schedule(
    cycles=(14000, 8000, 5000, 7000, 4000),
    heights=(1.0, 0.5, 0.25, 0.5, 0.5),
    learning_rate=2e-3,
    block_rate=4e-3,
)
FIRST_CHUNKS, CLIPS = 32, 8  # in a step
CHUNK_FRAMES = 3
CHUNKS = FRAMES // CHUNK_FRAMES
SIZE = (8, 8)  # of the latents
LEAST_NOISE = 0.2  # the last of four steps begins at 0.25
PURE_FIRST = 0.5  # how often a first chunk is noise alone
OWN_PASTS = 2  # times that the past may be made anew
CONTEXT_NOISE = 0.1  # the most noise that is added to the past
THING_WEIGHT = 4.0  # more than of the field, so that no thing is let go

Memory = list[tuple[int, ...]]


def random_memory(rng: random.Random) -> Memory:
    """What every chunk of a clip reads, by a random policy."""
    kind = rng.choice(("relaxed", "relaxed", "window", "everything"))
    firsts = range(0, FRAMES, CHUNK_FRAMES)
    if kind == "everything":
        return [tuple(range(first)) for first in firsts]
    if kind == "window":
        window = rng.randrange(1, FRAMES - CHUNK_FRAMES + 1)
        return [tuple(range(max(0, first - window), first)) for first in firsts]
    sink, history = rng.choice((0, 1, 2, 2, 2, 2, 3)), rng.choice((0, 1, 1, 1, 1, 2))
    tail = rng.choice((1, 1, 1, 1, 2, 3))
    return [_relaxed(first, sink, history, tail, rng) for first in firsts]


def _relaxed(past: int, sink: int, history: int, tail: int, rng: random.Random) -> tuple[int, ...]:
    if past <= sink + history + tail:
        return tuple(range(past))
    middle = sorted(rng.sample(range(sink, past - tail), history))
    return (*range(sink), *middle, *range(past - tail, past))


def random_sigmas(count: int, chunks: int, generator: torch.Generator, pure_later: float) -> Tensor:
    """A noise level for every chunk of every clip, `[B, chunks]`."""
    sigmas = LEAST_NOISE + (1 - LEAST_NOISE) * torch.rand(count, chunks, generator=generator)
    often = torch.tensor([PURE_FIRST] + [pure_later] * (chunks - 1))
    pure = torch.rand(count, chunks, generator=generator) < often
    return sigmas.masked_fill(pure, 1.0).to(DEVICE)


def levels(sigmas: Tensor) -> Tensor:
    """Of every frame, to go with latents: `[B, chunks]` as `[B, 1, T, 1, 1]`."""
    return sigmas.repeat_interleave(CHUNK_FRAMES, dim=1)[:, None, :, None, None]


def with_noise(latents: Tensor, sigmas: Tensor, noise: Tensor) -> Tensor:
    """`sigmas` is `[B, chunks]`."""
    return torch.lerp(latents, noise, levels(sigmas))


def phase_of(step: int) -> Phase:
    return PHASES[part_of(step, [phase.steps for phase in PHASES])[0]]


def things(clips: Tensor) -> Tensor:
    """Where clips `[B, C, T, h, w]` show something that moves: from 0 to 1, `[B, T, h, w]`."""
    contrast = (clips - still(clips)).square().mean(1)
    return contrast / (contrast + 0.5)


class Trainer:
    """Makes the loss of a step from its number."""

    def __init__(self, network: WanModel) -> None:
        self._clip = CausalClip(
            network, chunk_frames=CHUNK_FRAMES, size=SIZE, longest_memory=FRAMES - CHUNK_FRAMES
        )

    def loss_of(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng = random.Random(f"model {step}")
        generator = torch.Generator().manual_seed(step)
        phase = phase_of(step)
        whole = step % phase.first_chunks_every > 0
        count, chunks = (CLIPS, CHUNKS) if whole else (FIRST_CHUNKS, 1)
        clips = choose(rng, count, step, crowded=phase.crowded, apart=phase.apart)
        truth = torch.stack([clip.latents for clip in clips]).to(DEVICE)
        weights = (1 + THING_WEIGHT * things(truth))[:, : chunks * CHUNK_FRAMES]
        truth = truth[:, :, : chunks * CHUNK_FRAMES]
        prompts = [shortened(clip.scene.prompt, rng) for clip in clips]
        text = torch.stack([embed(tokens(prompt)) for prompt in prompts]).to(DEVICE)
        memory = random_memory(rng)[:chunks]
        cues = Cues(
            clips,
            random.Random(f"cues {step}"),
            chunks=chunks,
            chunk_frames=CHUNK_FRAMES,
            apart=phase.apart,
        )

        def drawn() -> Tensor:
            return torch.randn(truth.shape, generator=generator).to(DEVICE)

        def start() -> tuple[Tensor, Tensor]:
            noise, sigmas = drawn(), random_sigmas(count, chunks, generator, phase.pure)
            return cues.couple(noise, sigmas), sigmas

        with torch.autocast(DEVICE.type, torch.bfloat16):
            shown = truth
            if whole and phase.absent:
                shown = cues.forget(truth, phase.forgotten, absent=True)
            past = shown
            for _ in range(OWN_PASTS if whole and phase.own_past else 0):
                if rng.random() < phase.own_past:
                    past = self._imagine(past, shown, *start(), text, memory)
            if whole and not phase.absent:
                past = cues.forget(past, phase.forgotten)
            past = torch.lerp(past, drawn(), rng.uniform(0, CONTEXT_NOISE))
            noise, sigmas = start()
            flow = self._clip(past, with_noise(truth, sigmas, noise), sigmas, text, memory)
        errors = (flow.float() - (noise - truth)).square().mean(1)
        figures = {"first_chunk": errors[:, :CHUNK_FRAMES].mean().item()}
        if whole:
            figures["later_chunks"] = errors[:, CHUNK_FRAMES:].mean().item()
        return (weights * errors).mean() / weights.mean(), figures

    @torch.no_grad()
    def _imagine(
        self,
        past: Tensor,
        clip: Tensor,
        noise: Tensor,
        sigmas: Tensor,
        text: Tensor,
        memory: Memory,
    ) -> Tensor:
        """The clip as the model restores it from noise and this past."""
        noisy = with_noise(clip, sigmas, noise)
        flow = self._clip(past, noisy, sigmas, text, memory)
        return noisy - levels(sigmas) * flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after these")
    minutes = parser.parse_args().minutes
    network = WanModel(operations=comfy.ops.disable_weight_init, dtype=torch.float32, **NETWORK)
    network.to(DEVICE)
    initialise(network)
    torch.nn.init.zeros_(network.head.head.weight)
    weights = train(
        network,
        Trainer(network).loss_of,
        name="model",
        schedule=SCHEDULE,
        log=LOGS / "model_training.jsonl",
        stop_after_minutes=minutes,
    )
    save_file({key: value.half().cpu().contiguous() for key, value in weights.items()}, FILE)
    print(f"Wrote {FILE}")


if __name__ == "__main__":
    sys.exit(main())
