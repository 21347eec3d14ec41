"""One rollout described once and run twice: by the pack's nodes and by the reference."""

import functools
from dataclasses import asdict, dataclass

import tiny
import torch
from comfy.model_patcher import ModelPatcher
from parity import reference
from parity.reference import OtherMemory, Relaxed
from parity.reference_model import Transformer

TOLERANCE = 5e-5  # of float32 against float64: greatest error over greatest value
SIGMAS = (1.0, 0.9375, 0.8333333, 0.625, 0.0)
WIDTH, HEIGHT = 48, 32  # pixels: 3 x 2 tokens to a latent frame
PROMPT_SEEDS = {"positive": 1, "negative": 2}
NAMES = {  # of the reference's settings in the pack, where they differ
    "sink": "sink_frames",
    "history": "history_frames",
    "tail": "tail_frames",
    "candidates": "history_candidates",
    "reservoir": "reservoir_frames",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Settings of one rollout; `frames` and `given` count latent frames, given ones included."""

    memory: Relaxed | OtherMemory = Relaxed()
    frames: int = 24
    n: int = 3
    batch: int = 1
    cfg: float = 1.0
    given: int = 0
    tokens: tuple[int, int] = (8, 8)
    seed: int = 11
    sigmas: tuple[float, ...] = SIGMAS
    sigmas_first: tuple[float, ...] | None = None
    clean_pass: bool = True

    @property
    def prompts(self) -> dict[str, list]:
        """Conditioning by its name; the negative prompt has no part at a cfg of 1."""
        prompts = {
            name: tiny.conditioning(seed, tokens=tokens)
            for (name, seed), tokens in zip(PROMPT_SEEDS.items(), self.tokens, strict=True)
        }
        return prompts if self.cfg != 1 else {"positive": prompts["positive"]}

    @property
    def prefix(self) -> torch.Tensor | None:
        """Given latents `[batch, 16, given, H, W]`, another video for every sample."""
        if not self.given:
            return None
        shape = (self.batch, 16, self.given, HEIGHT // 8, WIDTH // 8)
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.seed))


@functools.cache
def transformer() -> Transformer:
    return Transformer(tiny.state_dict())


@functools.cache
def expected(case: Case):
    """The reference's videos `[batch, 16, frames, H, W]` and, by row label, its choices."""
    videos, choices = [], {}
    texts = {name: prompt[0][0][0] for name, prompt in case.prompts.items()}
    for sample in range(case.batch):
        video, chosen = reference.rollout(
            transformer(),
            case.memory,
            list(texts.values()),
            cfg=case.cfg,
            sigmas=list(case.sigmas),
            sigmas_first=case.sigmas_first and list(case.sigmas_first),
            clean_pass=case.clean_pass,
            shape=(case.frames, HEIGHT // 8, WIDTH // 8),
            n=case.n,
            seed=case.seed,
            sample=sample,
            prefix=None if case.prefix is None else case.prefix[sample],
        )
        videos.append(video)
        for name, row in zip(texts, zip(*chosen, strict=True), strict=True):
            choices[f"{name} {sample}"] = row
    return torch.stack(videos), choices


def settings(memory: Relaxed | OtherMemory) -> dict:
    """Those of a memory by their names in the pack."""
    return {NAMES.get(name, name): value for name, value in asdict(memory).items()}


def with_memory(model: ModelPatcher, memory: Relaxed | OtherMemory, device="auto") -> ModelPatcher:
    """The model after the pack's memory node with these settings."""
    if not isinstance(memory, Relaxed):
        return tiny.node(memory.node, model=model, **settings(memory))[0]
    storage = {"reservoir_device": device, "reservoir_dtype": "model"}
    return tiny.node("RelaxForcingMemory", model=model, **settings(memory), **storage)[0]


def sample(case: Case, model: ModelPatcher, **inputs):
    """The pack's sampler on a model that has its memory: latents and trace."""
    inputs = {"sigmas": torch.tensor(case.sigmas), **inputs}
    inputs["clean_pass"] = "always" if case.clean_pass else "never"
    if case.sigmas_first:
        inputs["sigmas_first"] = torch.tensor(case.sigmas_first)
    if case.given:
        inputs["prefix"] = {"samples": case.prefix}
    latent, trace = tiny.node(
        "RelaxForcingSampler",
        model=model,
        width=WIDTH,
        height=HEIGHT,
        length=4 * (case.frames - 1) + 1,
        seed=case.seed,
        steps=4,
        cfg=case.cfg,
        frames_per_chunk=case.n,
        batch_size=case.batch,
        autosave=False,
        **case.prompts,
        **inputs,
    )
    return latent["samples"], trace


def got(case: Case, kind: str = "wan"):
    """The pack's latents and trace for a case, through the real nodes."""
    return sample(case, with_memory(tiny.model(kind), case.memory))


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Greatest error over the greatest value."""
    assert got.shape == expected.shape
    return float((got.double() - expected).abs().max() / expected.abs().max())
