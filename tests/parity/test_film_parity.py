"""Shots, scenes and moments through the real sampler equal the literal reference."""

import dataclasses

import pytest
import tiny
import torch
from parity import cases, reference_film
from parity.cases import HEIGHT, SIGMAS, TOLERANCE, WIDTH, error
from parity.memories.window import Window
from parity.reference import Relaxed

from relax_memory.direction.shots import Shot
from relax_memory.host.model.attention import with_memory
from relax_memory.host.request import Request
from relax_memory.host.sampling.generate import generate
from relax_memory.memory.storage import Storage
from relax_memory.policies import Policy, RelaxedMemory, WindowMemory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A film; shots are `(first chunk, text, changes)`, texts are seeds of embeddings."""

    shots: tuple = ((0, 0, {}), (4, 1, {}))
    negative: tuple = ()
    tokens: tuple[int, ...] = (8, 8, 8)
    memory: Relaxed | Window = Relaxed()
    frames: int = 24
    n: int = 3
    batch: int = 1
    cfg: float = 1.0
    given: int = 0
    seed: int = 11
    device: str = "auto"

    def shots_of(self, name: str) -> list[dict]:
        shots = self.shots if name == "positive" else self.negative or ((0, 0, {}),)
        plain = {"scene": 0, "transition": "keep"}
        return [plain | {"first_chunk": first, "text": text} | rest for first, text, rest in shots]

    def prompts(self, name: str) -> tuple:
        first = 1 if name == "positive" else 21
        return tuple(tiny.conditioning(first + i, tokens=t) for i, t in enumerate(self.tokens))

    @property
    def names(self) -> list[str]:
        return ["positive"] if self.cfg == 1 else ["positive", "negative"]

    @property
    def prefix(self) -> torch.Tensor | None:
        return cases.Case(given=self.given, batch=self.batch, seed=self.seed).prefix


def policy_of(memory: Relaxed | Window) -> Policy:
    kind = WindowMemory if isinstance(memory, Window) else RelaxedMemory
    return kind(**cases.settings(memory))


def made(case: Case, **changes):
    """Latents and trace of the pack."""
    shots = {
        name: tuple(
            Shot(prompt=shot["text"], **{k: v for k, v in shot.items() if k != "text"})
            for shot in case.shots_of(name)
        )
        for name in case.names
    }
    prompts = {name: case.prompts(name) for name in case.names}
    request = Request(
        model=with_memory(tiny.model(), policy_of(case.memory), Storage(device=case.device)),
        positive=prompts["positive"][0],
        negative=prompts.get("negative", [None])[0],
        width=WIDTH,
        height=HEIGHT,
        length=4 * (case.frames - 1) + 1,
        seed=case.seed,
        cfg=case.cfg,
        frames_per_chunk=case.n,
        batch_size=case.batch,
        prefix=case.prefix,
        sigmas=torch.tensor(SIGMAS),
        shots=shots,
        prompts=prompts,
        **changes,
    )
    return generate(request)


def expected(case: Case, newest: int = 2) -> torch.Tensor:
    videos = [
        reference_film.film(
            cases.transformer(),
            case.memory,
            {name: [prompt[0][0][0] for prompt in case.prompts(name)] for name in case.names},
            {
                name: [reference_film.Shot(**shot) for shot in case.shots_of(name)]
                for name in case.names
            },
            cfg=case.cfg,
            sigmas=list(SIGMAS),
            shape=(case.frames, HEIGHT // 8, WIDTH // 8),
            n=case.n,
            seed=case.seed,
            sample=sample,
            prefix=None if case.prefix is None else case.prefix[sample],
            newest=newest,
        )
        for sample in range(case.batch)
    ]
    return torch.stack(videos)


def then(transition: str, **changes) -> tuple:
    return (0, 0, {}), (4, 1, {"transition": transition, **changes})


ABA = (
    (0, 0, {}),
    (3, 1, {"scene": 1, "transition": "cut"}),
    (5, 0, {"transition": "return"}),
)
CASES = {
    "keep": Case(),
    "keep, frame by frame": Case(memory=Relaxed(reservoir=14), n=1, frames=9),
    "keep, cfg, batch of 2": Case(memory=Relaxed(reservoir=12), cfg=3.0, batch=2, frames=18),
    "keep in both": Case(cfg=3.0, negative=((0, 0, {}), (2, 1, {})), frames=18),
    "recache": Case(shots=then("recache")),
    "recache, evicting": Case(shots=then("recache"), memory=Relaxed(reservoir=9)),
    "recache, absolute": Case(shots=then("recache"), memory=Relaxed(rope="absolute")),
    "recache, cfg, batch of 2": Case(
        shots=then("recache"), memory=Relaxed(reservoir=12), cfg=3.0, batch=2, frames=18
    ),
    "recache of the negative": Case(
        cfg=3.0, negative=((0, 0, {}), (4, 1, {"transition": "recache"})), frames=18
    ),
    "recache, host memory": Case(
        shots=then("recache"), memory=Relaxed(reservoir=12), device="cpu", batch=2
    ),
    "recache, window": Case(shots=then("recache"), memory=Window(sink_frames=1, window_frames=4)),
    "recache, history of 2": Case(shots=then("recache"), memory=Relaxed(history=2, reservoir=15)),
    "recache twice": Case(
        shots=(*then("recache"), (5, 2, {"transition": "recache"}), (6, 0, {"transition": "keep"}))
    ),
    "recache after the first chunk": Case(
        shots=((0, 0, {}), (1, 1, {"transition": "recache"}), (3, 0, {"transition": "recache"})),
        frames=18,
    ),
    "recache, from 5 frames": Case(shots=then("recache"), given=5),
    "blend": Case(shots=then("blend", blend_seconds=2.0)),
    "blend, other lengths": Case(shots=then("blend", blend_seconds=1.0), tokens=(8, 5, 8)),
    "blend, cfg, batch of 2": Case(
        shots=then("blend", blend_seconds=2.0), cfg=3.0, batch=2, frames=18
    ),
    "cut": Case(shots=then("cut", scene=1)),
    "cut, cfg, batch of 2": Case(shots=then("cut", scene=1), cfg=3.0, batch=2, frames=18),
    "there and back": Case(shots=ABA),
    "there and back, evicting": Case(shots=ABA, memory=Relaxed(reservoir=9), frames=27),
    "there and back, absolute": Case(shots=ABA, memory=Relaxed(rope="absolute")),
    "there and back, from 4 frames": Case(shots=ABA, given=4),
    "there and back, host memory": Case(shots=ABA, device="cpu", batch=2, frames=21),
    "a cut in what is given": Case(shots=ABA, given=12, frames=27),
    "a moment": Case(shots=then("keep", moment=7)),
    "a moment in a new scene": Case(shots=then("cut", scene=1, moment=4)),
    "a moment in a new scene, absolute": Case(
        shots=then("cut", scene=1, moment=4), memory=Relaxed(rope="absolute")
    ),
    "a moment that is the one candidate": Case(
        shots=then("keep", moment=6), memory=Relaxed(candidates=1)
    ),
    "a moment that is a sink": Case(shots=then("keep", moment=1)),
    "a moment, cfg, batch of 2": Case(
        shots=then("cut", scene=1, moment=4), cfg=3.0, batch=2, frames=18
    ),
    "a moment, recache": Case(shots=then("recache", moment=9)),
    "a moment, window": Case(
        shots=then("cut", scene=1, moment=4), memory=Window(sink_frames=1, window_frames=3)
    ),
    "a moment in given frames": Case(shots=then("cut", scene=1, moment=2), given=5),
    "a moment for what is given": Case(
        shots=((0, 0, {}), (1, 1, {"scene": 1, "transition": "cut", "moment": 2})),
        given=9,
        frames=18,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_films_equal_the_reference(case):
    latents, _ = made(case)
    assert error(latents, expected(case)) < TOLERANCE
