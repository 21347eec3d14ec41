"""Videos of new prompts under a memory policy, measured at several moments."""

import random
from collections.abc import Iterable

import torch

from demo.text import embed, tokens
from lab.clips import APART_SHARDS, SHARDS, scenes
from lab.measure import Report, measure
from lab.world import FRAMES_PER_SECOND, SIZE, Scene, random_scene
from relax_memory.host.model.attention import with_memory
from relax_memory.host.request import Request
from relax_memory.host.sampling.generate import generate
from relax_memory.policies import Policy

LOOK_FRAMES, WARM_UP_FRAMES = 7, 2  # latent frames of a stretch, and decoded before it
BATCH = 16  # videos that are sampled together
LAST_CHUNKS = 10  # whose time is given


def pairs(count: int) -> list[Scene]:
    """Scenes whose prompts are new to the model, half of one thing, half of two as in the world."""
    known = {scene.prompt for shard in range(SHARDS + APART_SHARDS) for scene, _ in scenes(shard)}
    rng, found = random.Random("policy lab"), []
    while len(found) < count:
        scene = random_scene(rng)
        if scene.prompt not in known and len(scene.things) == 1 + len(found) % 2:
            found.append(scene)
    return found


def rollout(model, policy: Policy, scenes: list[Scene], length: int, seed: int):
    """Latents `[B, 16, T, h, w]` of one video for every scene, and the seconds of every chunk."""
    text = torch.stack([embed(tokens(scene.prompt)) for scene in scenes])
    request = Request(
        model=with_memory(model, policy),
        positive=[[text, {}]],
        width=SIZE,
        height=SIZE,
        length=length,
        seed=seed,
        batch_size=len(scenes),
    )
    latents, trace = generate(request)
    return latents, [chunk.seconds for chunk in trace.chunks]


def looks(vae, latents: torch.Tensor, scenes: list[Scene], seconds: Iterable[int]) -> list[list]:
    """A report for every moment and scene."""
    reports = []
    for second in seconds:
        first = max(0, second * FRAMES_PER_SECOND // 4 - WARM_UP_FRAMES)
        stretch = latents[:, :, first : first + WARM_UP_FRAMES + LOOK_FRAMES]
        videos = vae.decode(stretch).movedim(-1, 2)[:, -4 * LOOK_FRAMES :]
        reports.append([measure(v, scene) for v, scene in zip(videos, scenes, strict=True)])
    return reports


def observe(
    model, vae, policy: Policy, scenes: list[Scene], length: int, seconds: list[int]
) -> tuple[list[list[Report]], list[float]]:
    """Reports of every moment, one a scene, and seconds of the last chunks for each video."""
    reports, chunk_seconds = [[] for _ in seconds], []
    for first in range(0, len(scenes), BATCH):
        batch = scenes[first : first + BATCH]
        latents, taken = rollout(model, policy, batch, length, seed=first)
        chunk_seconds += [each / len(batch) for each in taken[-LAST_CHUNKS:]]
        for moment, seen in zip(reports, looks(vae, latents, batch, seconds), strict=True):
            moment += seen
    return reports, chunk_seconds
