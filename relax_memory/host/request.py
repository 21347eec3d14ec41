"""What a sampling node asks for, checked before anything is loaded or sampled."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..direction.shots import Shot
from ..grid import WAN, Grid
from ..passes import Schedule
from ..policies import RelaxedMemory
from ..scenes import WHOLE, Film
from ..storyboard import Storyboard
from .directed import without_direction
from .film.cuts import Take, pieces_of, take_of
from .following import FRAMES, STEPS, follow
from .gates.areas import in_videos
from .gates.conditioning import check_cfg, check_conditioning
from .gates.latent import check_not_empty, check_size, prefix_of
from .gates.model import check_model, without_negative
from .gates.numbers import checked_numbers
from .gates.sigmas import check_first, check_sigmas, first_level
from .gates.start_image import start_image, without_start_image
from .gates.words import say
from .model.attention import check_attention, check_supported
from .model.family import grid_of, network_of
from .options import options_of
from .shots import laid_out
from .steering.source import Source, source_of


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the sampler nodes ask for, in the host's terms. `length` counts video frames.

    `words` are the first of the prompt, for lists. `prefix` are clean latents `[B, 16, P, H/8,
    W/8]` as the host's LATENT holds them; `sigmas` replaces the schedule made from `steps`, and
    `sigmas_first` that of a chunk with nothing before it. Without a `clean_pass` the last step of a
    chunk is remembered. `first_sample` is the number that the first sample has in the batch in
    which its prefix was begun, and `taken_from` the saved rollout of that. `shots` lay the
    `prompts` of a conditioning over the film; `positive` and `negative` are the first of them, and
    `said` are the words of the positive; `sources` tell where those of each come from, if they can
    be others while it runs. `pieces` are those of the prefix.

    Raises:
        ValueError: an input that cannot be sampled, by name, with its value and what is needed.
    """

    model: ModelPatcher
    positive: list
    negative: list | None = None
    width: int
    height: int
    length: int
    seed: int
    steps: int = 4
    cfg: float = 1.0
    frames_per_chunk: int = 3
    batch_size: int = 1
    prefix: Tensor | None = None
    sigmas: Tensor | None = None
    sigmas_first: Tensor | None = None
    clean_pass: bool = True
    fps: float = WAN.fps
    autosave: bool = False
    words: str = ""
    shots: dict[str, tuple[Shot, ...]] = field(default_factory=dict)
    prompts: dict[str, tuple[list, ...]] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    first_sample: int = 0
    taken_from: str = ""
    pieces: Film = WHOLE
    sources: dict[str, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size(self.width, self.height, self.grid)
        for name in ("length", "steps", "frames_per_chunk", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: use 1 or more.")
        check_cfg(self.cfg, negative=self.negative)
        check_supported(self.model.get_model_object("diffusion_model"))
        network = network_of(self.model)
        check_attention(network, self.model.get_model_object)
        notes = check_model(self.model)
        notes += without_negative(self.cfg, self.model.model_options)
        for name in ("positive", "negative"):
            given = getattr(self, name)
            for entries in self.prompts.get(name) or ([] if given is None else [given]):
                notes += check_conditioning(
                    name,
                    entries,
                    text_dim=network.text_dim,
                    samples=self.batch_size,
                    size=self.latent_size,
                    frames=self.latent_frames,
                )
        self._check_prefix()
        self._check_sigmas()
        say(notes)

    @property
    def grid(self) -> Grid:
        """How the latents of the model lie on the video."""
        return grid_of(self.model)

    @property
    def latent_frames(self) -> int:
        """Latent frames of the video that is returned."""
        return self.grid.latent_frames(self.length)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of a latent frame."""
        return self.grid.latent_size(self.width, self.height)

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the latents that are returned: `[B, C, T, H/8, W/8]`."""
        return (self.batch_size, self.grid.channels, self.latent_frames, *self.latent_size)

    @property
    def prefix_frames(self) -> int:
        return 0 if self.prefix is None else self.prefix.shape[2]

    @property
    def take(self) -> Take:
        """What the latents that are returned say of themselves."""
        return Take("", self.first_sample, self.frames_per_chunk, self.seed)

    @property
    def steerable(self) -> bool:
        """Whether shots of any kind may be named while it is made."""
        return bool(self.sources)

    @cached_property
    def schedule(self) -> Schedule:
        """The noise levels of its chunks; after a prefix no chunk is without a past."""
        sigmas = self.sigmas
        if sigmas is None:
            sampling = self.model.get_model_object("model_sampling")
            sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", self.steps)
        scenes = {shot.scene for shot in self.shots.get("positive", ())}
        first = None if self.prefix_frames and len(scenes) < 2 else self.sigmas_first
        return Schedule(sigmas=sigmas, first=first, clean_pass=self.clean_pass)

    @cached_property
    def storyboard(self) -> Storyboard:
        """Its chunks; without a memory node they read by the paper's settings."""
        remembered = options_of(self.model)
        return Storyboard(
            remembered.policy if remembered else RelaxedMemory(),
            total_frames=self.latent_frames,
            chunk_frames=self.frames_per_chunk,
            prefix_frames=self.prefix_frames,
            shots=self.shots,
            steerable=self.steerable,
            grid=replace(self.grid, fps=self.fps),
        )

    def _check_sigmas(self) -> None:
        first = first_level(self.model.get_model_object("model_sampling"))
        sigmas = self.schedule.sigmas
        own = f"the model's own sigmas for {self.steps} steps"
        check_sigmas(sigmas, first=first, name=own if self.sigmas is None else "sigmas")
        check_first(self.sigmas_first, sigmas)

    def _check_prefix(self) -> None:
        if self.prefix is None:
            return
        samples, *shape = self.prefix.shape
        expected = [self.grid.channels, "frames", *self.latent_size]
        if len(shape) != 4 or [shape[0], *shape[2:]] != [self.grid.channels, *self.latent_size]:
            raise ValueError(
                f"prefix has shape {list(shape)} for each sample, but {expected} is needed for "
                f"{self.width}x{self.height}: encode it with the Wan 2.1 VAE at this size."
            )
        if samples not in (1, self.batch_size):
            raise ValueError(
                f"prefix has {samples} samples, but batch_size is {self.batch_size}: give 1 "
                f"(sample of Relax Forcing Resume chooses it), or set batch_size to {samples}."
            )
        if not torch.isfinite(self.prefix).all():
            raise ValueError("prefix holds NaN or infinite values: make these latents again.")
        if self.prefix_frames >= self.latent_frames:
            raise ValueError(
                f"length is {self.length} video frames, which the prefix alone fills with "
                f"{self.grid.length(self.prefix_frames)}: length counts the prefix too, so raise "
                "it."
            )
        check_not_empty(self.prefix)


def make_request(
    *,
    model: ModelPatcher,
    positive: list,
    negative: list | None = None,
    prefix: dict | None = None,
    **settings: Any,  # noqa: ANN401  (those of `Request`, by name)
) -> Request:
    """The request of a node, from its inputs: `prefix` is a LATENT, and a start image becomes one.

    Raises:
        ValueError: as `Request`; a start image and a prefix, or a start image that cannot be one.
    """
    settings = checked_numbers(settings)
    if not positive:
        raise ValueError("positive conditioning is empty: connect a prompt.")
    samples, notes = (None, []) if prefix is None else prefix_of(prefix)
    take = take_of(prefix or {})
    asked = {name: settings.pop(name, None) for name in ("sigmas", "sigmas_first")}
    asked |= {
        name: settings.pop(name)
        for name in ("steps", "frames_per_chunk", "clean_pass")
        if name in settings
    }
    followed, said = follow(model, **{"steps": STEPS, "frames_per_chunk": FRAMES} | asked)
    notes = [*notes, *said]
    picture = start_image(model, {"positive": positive, "negative": negative})
    if picture is not None:
        source, frames = picture
        if samples is not None:
            raise ValueError(
                f"{source} carries a start image and prefix is connected too, but a video has one "
                "beginning: remove the start image or the prefix."
            )
        size = [grid_of(model).pixels * side for side in reversed(frames.shape[-2:])]
        if size != [settings["width"], settings["height"]]:
            raise ValueError(
                f"{source} carries a start image of {size[0]}x{size[1]}, but the video is "
                f"{settings['width']}x{settings['height']}: set the same size in both nodes."
            )
        samples = frames
    if samples is not None and not followed["clean_pass"]:
        notes.append(
            "The prefix is remembered by a clean pass all the same, because the steps that made it "
            "are not known."
        )
    frames_per_chunk = followed["frames_per_chunk"]
    notes += take.changed(frames_per_chunk=frames_per_chunk, seed=settings["seed"])
    total_frames = grid_of(model).latent_frames(settings["length"])
    pieces = pieces_of(prefix, "prefix") if prefix else WHOLE
    conditionings = {"positive": positive, "negative": negative}
    sources = {name: source_of(given) for name, given in conditionings.items()}
    shots, said = laid_out(
        conditionings,
        pieces=pieces,
        total_frames=total_frames,
        chunk_frames=frames_per_chunk,
        prefix_frames=0 if samples is None else samples.shape[2],
        fps=settings.get("fps", WAN.fps),
        clean_pass=followed["clean_pass"],
    )
    say([*notes, *shots.begins, *said])
    return Request(
        model=model,
        positive=_for_videos(positive, total_frames),
        negative=negative and _for_videos(negative, total_frames),
        prefix=samples,
        shots=shots.shots,
        prompts={
            name: (
                _for_videos(first, total_frames),
                *(_areas_for_videos(prompt, total_frames) for prompt in later),
            )
            for name, (first, *later) in shots.prompts.items()
        },
        said=shots.words,
        first_sample=take.sample,
        taken_from=take.rollout,
        pieces=pieces,
        sources={name: source for name, source in sources.items() if source is not None},
        **followed,
        **settings,
    )


def _for_videos(entries: list, frames: int) -> list:
    """A conditioning without its start image and its shots, with areas as videos have them."""
    return [
        [embedding, without_direction(options), *rest]
        for embedding, options, *rest in _areas_for_videos(without_start_image(entries), frames)
    ]


def _areas_for_videos(entries: list, frames: int) -> list:
    """A conditioning with areas as the host applies them to videos."""
    return [[embedding, in_videos(options, frames), *rest] for embedding, options, *rest in entries]
