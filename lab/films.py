"""Films of the small world, and what is seen of the old words and the new ones, moment by moment.

A film is directed through the functions behind Relax Forcing Shot, one film for each sample of a
batch. A moment is one latent frame, four pictures, so times are told to a quarter of a second.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from demo.text import PATTERNS, SHAPES, embed, tokens
from lab.clips import APART_SHARDS, SHARDS, scenes
from lab.measure import look, measure, right_share
from lab.world import COLOURS, FRAMES_PER_SECOND, GROUNDS, SIZE, Scene, ground, random_scene
from relax_memory.grid import WAN
from relax_memory.host.directed import with_shot
from relax_memory.host.model.attention import with_memory
from relax_memory.host.request import make_request
from relax_memory.host.sampling.generate import generate
from relax_memory.policies import Policy

BATCH = 16  # films that are sampled together
CHUNK_FRAMES = 3
PICTURES = WAN.video_frames  # of a latent frame
MOMENTS_PER_SECOND = FRAMES_PER_SECOND // PICTURES
WARM_UP_FRAMES = 4  # decoded before what is looked at, and thrown away


@dataclass(frozen=True, kw_only=True)
class Change:
    """What the words say before and after, and by what they differ."""

    kind: str
    before: Scene
    after: Scene


@dataclass(frozen=True, kw_only=True)
class Words:
    """The shot of every film of a batch from a chunk on: prompts, and the settings of the node."""

    chunk: int
    prompts: list[str]
    transition: str = "keep"
    scene: str = ""
    moment: int | None = None  # latent frame


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What four pictures show: of each thing of a scene whether its colour is seen and whether it
    is right, where the main one is, and the pattern and colour of the field.
    """

    seen: tuple[bool, ...]
    right: tuple[bool, ...]
    place: tuple[float, float] | None
    field: tuple[str, str]


def new_scene(rng: random.Random, things: int) -> Scene:
    """A scene of so many things whose prompt is new to the model."""
    while True:
        scene = random_scene(rng)
        if len(scene.things) == things and scene.prompt not in _known():
            return scene


def _known(found: set[str] = set()) -> set[str]:  # noqa: B006  (drawn once)
    if not found:
        shards = range(SHARDS + APART_SHARDS)
        found.update(scene.prompt for shard in shards for scene, _ in scenes(shard))
    return found


def changes(count: int) -> list[Change]:
    """Changes of each kind in turn: of one thing's colour, its shape, of the field, and of the
    colour of one of two things.
    """
    rng = random.Random("film lab")
    kinds: dict[str, Callable[[Scene], Scene]] = {
        "colour": lambda scene: _recoloured(rng, scene),
        "shape": lambda scene: _reshaped(rng, scene),
        "field": lambda scene: _elsewhere(rng, scene),
        "one of two": lambda scene: _recoloured(rng, scene),
    }
    found: list[Change] = []
    while len(found) < count:
        kind = [*kinds][len(found) % len(kinds)]
        before = new_scene(rng, 2 if kind == "one of two" else 1)
        after = kinds[kind](before)
        if after.prompt not in _known():
            found.append(Change(kind=kind, before=before, after=after))
    return found


def journeys(count: int) -> list[tuple[Scene, Scene]]:
    """Scenes of one thing, each with another place that the film goes to: all is other there."""
    rng = random.Random("film lab, there and back")
    found = []
    for _ in range(count):
        home = new_scene(rng, 1)
        away = _elsewhere(rng, _reshaped(rng, _recoloured(rng, home)))
        found.append((home, away))
    return found


def _recoloured(rng: random.Random, scene: Scene) -> Scene:
    taken = {thing.colour for thing in scene.things}
    colour = rng.choice([colour for colour in COLOURS if colour not in taken])
    main, *others = scene.things
    return replace(scene, things=(replace(main, colour=colour), *others))


def _reshaped(rng: random.Random, scene: Scene) -> Scene:
    main, *others = scene.things
    shape = rng.choice([shape for shape in SHAPES if shape != main.shape])
    return replace(scene, things=(replace(main, shape=shape), *others))


def _elsewhere(rng: random.Random, scene: Scene) -> Scene:
    return replace(
        scene,
        ground=rng.choice([colour for colour in GROUNDS if colour != scene.ground]),
        pattern=rng.choice([pattern for pattern in PATTERNS if pattern != scene.pattern]),
    )


def film(model, policy: Policy, words: list[Words], *, chunks: int, seed: int) -> Tensor:
    """Latents `[B, 16, T, h, w]` of a film for each sample."""
    conditioning = None
    for shot in words:
        text = torch.stack([embed(tokens(prompt)) for prompt in shot.prompts])
        moment = {} if shot.moment is None else {"remember_seconds": _seconds(shot.moment)}
        conditioning = with_shot(
            [[text, {}]],
            start_seconds=_seconds(CHUNK_FRAMES * shot.chunk),
            transition=shot.transition,
            blend_seconds=1.0,
            scene=shot.scene,
            before=conditioning,
            **moment,
        )
    request = make_request(
        model=with_memory(model, policy),
        positive=conditioning,
        width=SIZE,
        height=SIZE,
        length=WAN.length(CHUNK_FRAMES * chunks),
        seed=seed,
        batch_size=len(words[0].prompts),
    )
    return generate(request)[0]


def _seconds(frame: int) -> float:
    """When the first picture of a latent frame is seen."""
    return WAN.length(frame) / FRAMES_PER_SECOND


def pictures(vae, latents: Tensor, *, after: Tensor | None = None) -> Tensor:
    """What latents show, `[B, 4 T, 3, H, W]`, with the decoder that has seen those `after` which
    they come. A new decoder's first picture stands four times, as at a cut.
    """
    if after is not None:
        latents = torch.cat([after[:, :, -WARM_UP_FRAMES:], latents], 2)
    shown = vae.decode(latents).movedim(-1, 2)
    if after is None:
        return torch.cat([shown[:, :1].expand(-1, PICTURES - 1, -1, -1, -1), shown], 1)
    return shown[:, WAN.length(min(WARM_UP_FRAMES, after.shape[2])) :]


def moments(video: Tensor, scene: Scene) -> list[Moment]:
    """What a video `[4 T, 3, H, W]` shows of a scene, latent frame by latent frame."""
    return [_moment(four, scene) for four in video.split(PICTURES)]


def _moment(video: Tensor, scene: Scene) -> Moment:
    tracks, _ = look(video, scene)
    places = [sight.place for sight in tracks[0] if sight]
    shares = map(right_share, tracks, scene.things)
    return Moment(
        seen=tuple(2 * sum(map(bool, track)) > PICTURES for track in tracks),
        right=tuple(share > 0.5 for share in shares),
        place=places[-1] if places else None,
        field=_field(video),
    )


def _field(video: Tensor) -> tuple[str, str]:
    """The field that is nearest to what is mostly seen."""
    shown = video.float().cpu().median(0).values
    fields = _fields()
    return min(fields, key=lambda name: (shown - fields[name]).norm(dim=0).median().item())


def _fields(found: dict[tuple[str, str], Tensor] = {}) -> dict[tuple[str, str], Tensor]:  # noqa: B006
    if not found:
        scene = random_scene(random.Random(0))
        for pattern in PATTERNS:
            for colour in GROUNDS:
                found[pattern, colour] = ground(replace(scene, pattern=pattern, ground=colour))
    return found


def motion(video: Tensor, scene: Scene) -> float:
    """How fast things move, of what is asked."""
    return measure(video, scene).motion_ratio
