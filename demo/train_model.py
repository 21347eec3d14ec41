"""Trains the small causal Wan 2.1 transformer and writes `demo/models/model.safetensors`.

Flow matching on whole clips at once (`demo/causal.py`), with the memory of a random policy, so that
the model knows short and long memories. Half of the time the past that it reads is not the true one
but what the model itself makes of it, so that its own errors do not carry it away in a long rollout
(the idea of Resampling Forcing, arXiv 2512.15702).

Where things begin is not in the text, and the best answer to a question with many answers is their
mean, which is nothing at all: few steps would not find one. So the noise that a first chunk starts
from is coupled with the clip: the mean of every channel tells where a thing is and where it goes,
while the noise as a whole stays what it was, independent and normally distributed. To read it is
learnt from many first chunks at once, before whole clips. `python run.py train model`
"""

import argparse
import random
import sys

import torch
from comfy.cli_args import args
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

args.cpu = not torch.cuda.is_available()  # before the host looks for a GPU

import comfy.ops  # noqa: E402
from comfy.ldm.wan.model import WanModel  # noqa: E402

from demo.causal import CausalClip  # noqa: E402
from demo.clips import FRAMES, Clips, shortened  # noqa: E402
from demo.text import embed, tokens  # noqa: E402
from demo.train_vae import FOLDER  # noqa: E402
from demo.training import DEVICE, Schedule, initialise, train  # noqa: E402

FILE = FOLDER / "model.safetensors"
NETWORK = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 4}
SCHEDULE = Schedule(cycles=(3500,), learning_rate=1e-3, block_rate=2e-3)
BEGINNING_STEPS, BEGINNINGS = 1200, 96  # steps with first chunks alone, and how many of them
BATCH_CLIPS = 8
CHUNK_FRAMES = 3
CHUNKS = FRAMES // CHUNK_FRAMES
SIZE = (8, 8)  # of the latents
FIRST_CHUNK_WEIGHT = 4.0  # a rollout has one, and all that follows depends on it
PURE_NOISE = (0.5, 0.25)  # how often a first and a later chunk is noise alone, as each is at first
OWN_PAST = 0.5  # how often the past is the model's own
OWN_PAST_FROM_STEP = 1600
CONTEXT_NOISE = 0.1  # the most noise that is added to the past

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


def random_sigmas(count: int, chunks: int, generator: torch.Generator) -> Tensor:
    """A noise level for every chunk of every clip, `[B, chunks]`."""
    sigmas = torch.rand(count, chunks, generator=generator)
    often = torch.tensor([PURE_NOISE[0]] + [PURE_NOISE[1]] * (chunks - 1))
    pure = torch.rand(count, chunks, generator=generator) < often
    return sigmas.masked_fill(pure, 1.0).to(DEVICE)


def with_noise(latents: Tensor, sigmas: Tensor, noise: Tensor) -> Tensor:
    """`sigmas` is `[B, chunks]`."""
    level = sigmas.repeat_interleave(CHUNK_FRAMES, dim=1)[:, None, :, None, None]
    return torch.lerp(latents, noise, level)


def coupled(noise: Tensor, sigmas: Tensor, beginnings: Tensor) -> Tensor:
    """Noise whose channel means tell the beginning of clips whose first chunk is noise alone."""
    first = noise[:, :, :CHUNK_FRAMES]
    mean = first.mean((2, 3, 4))
    wanted = beginnings / first[0, 0].numel() ** 0.5
    tells = ~beginnings.isnan() & (sigmas[:, :1] == 1)
    change = (wanted - mean).where(tells, 0.0)
    return torch.cat([first + change[:, :, None, None, None], noise[:, :, CHUNK_FRAMES:]], dim=2)


class Trainer:
    """Makes the loss of a step from its number."""

    def __init__(self, network: WanModel) -> None:
        self._clips = Clips()
        self._clip = CausalClip(
            network, chunk_frames=CHUNK_FRAMES, size=SIZE, longest_memory=FRAMES - CHUNK_FRAMES
        )

    def loss_of(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng = random.Random(f"model {step}")
        generator = torch.Generator().manual_seed(step)
        whole = step >= BEGINNING_STEPS
        count, chunks = (BATCH_CLIPS, CHUNKS) if whole else (BEGINNINGS, 1)
        truth, texts, beginnings = self._clips.choose(rng, count, step)
        truth = truth[:, :, : chunks * CHUNK_FRAMES]
        numbers = [tokens(shortened(text, rng)) for text in texts]
        text = torch.stack([embed(n) for n in numbers]).to(DEVICE)
        memory = random_memory(rng)[:chunks]

        def drawn() -> Tensor:
            return torch.randn(truth.shape, generator=generator).to(DEVICE)

        def start() -> tuple[Tensor, Tensor]:
            """Noise and its levels."""
            noise, sigmas = drawn(), random_sigmas(count, chunks, generator)
            return coupled(noise, sigmas, beginnings), sigmas

        with torch.autocast(DEVICE.type, torch.bfloat16):
            past = truth
            if step >= OWN_PAST_FROM_STEP and rng.random() < OWN_PAST:
                past = self._imagine(truth, *start(), text, memory)
            past = torch.lerp(past, drawn(), rng.uniform(0, CONTEXT_NOISE))
            noise, sigmas = start()
            flow = self._clip(past, with_noise(truth, sigmas, noise), sigmas, text, memory)
        errors = (flow.float() - (noise - truth)).square().mean((1, 3, 4))
        first, later = errors[:, :CHUNK_FRAMES].mean(), errors[:, CHUNK_FRAMES:].mean()
        if not whole:
            return first, {"first_chunk": first.item()}
        loss = torch.lerp(later, first, FIRST_CHUNK_WEIGHT / (FIRST_CHUNK_WEIGHT + CHUNKS - 1))
        return loss, {"first_chunk": first.item(), "later_chunks": later.item()}

    @torch.no_grad()
    def _imagine(
        self, truth: Tensor, noise: Tensor, sigmas: Tensor, text: Tensor, memory: Memory
    ) -> Tensor:
        """The clip as the model restores it from noise."""
        noisy = with_noise(truth, sigmas, noise)
        flow = self._clip(truth, noisy, sigmas, text, memory)
        return noisy - sigmas.repeat_interleave(CHUNK_FRAMES, 1)[:, None, :, None, None] * flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after these")
    minutes = parser.parse_args().minutes
    network = WanModel(operations=comfy.ops.disable_weight_init, dtype=torch.float32, **NETWORK)
    network.to(DEVICE)
    trainer = Trainer(network)
    done = 0
    while done < SCHEDULE.steps:
        span = SCHEDULE.cycle_after(begin(network))
        weights = train(
            network,
            trainer.loss_of,
            name="model",
            schedule=SCHEDULE,
            log=FOLDER / "model_training.jsonl",
            span=span,
            stop_after_minutes=minutes,
        )
        halves = {key: value.half().cpu().contiguous() for key, value in weights.items()}
        save_file(halves, FILE, metadata={"steps": str(span.stop)})
        done = span.stop
        print(f"Wrote {FILE} after {done} steps")


def begin(network: WanModel) -> int:
    """Weights as the last cycle left them in the file, and the number of steps behind them.

    So a training can go on anywhere from the file alone; after the last cycle it begins anew.
    """
    if FILE.exists():
        with safe_open(FILE, "pt") as file:
            steps = int(file.metadata()["steps"])
        if steps < SCHEDULE.steps:
            network.load_state_dict({k: weight.float() for k, weight in load_file(FILE).items()})
            return steps
    initialise(network)
    torch.nn.init.zeros_(network.head.head.weight)
    return 0


if __name__ == "__main__":
    sys.exit(main())
