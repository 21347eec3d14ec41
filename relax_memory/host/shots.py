"""The shots of a request: what its conditionings direct, laid over its chunks and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import comfy.samplers
from torch import Tensor

from ..direction.chunks import Chunks
from ..direction.resolve import resolve
from ..direction.script import ScriptError
from ..direction.shots import Shot
from ..grid import WAN
from ..scenes import WHOLE, Film, film_of
from ..storyboard import SCENES
from .directed import Directed, differences, direction_of, is_zeroed, without_direction
from .following import STEPS, follow
from .gates.areas import in_videos
from .gates.conditioning import check_conditioning
from .model.family import network_of


@dataclass(frozen=True, kw_only=True)
class Shots:
    """By the name of each conditioning that is directed: its shots and its prompts.

    Args:
        words: of each cue of the positive its own ones, for people.
        begins: a sentence for each on when its shots begin.
    """

    shots: dict[str, tuple[Shot, ...]] = field(default_factory=dict)
    prompts: dict[str, tuple[list, ...]] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()


def directed(
    guider: comfy.samplers.CFGGuider, like: Tensor, *, chunk_frames: int, clean_pass: str
) -> tuple[Shots, list[str]]:
    """The shots that the conditionings of a guider carry, for latents `[B, C, T, h, w]`.

    Raises:
        ValueError: as `laid_out`; a shot that no run could follow, or one with hooks, which the
            host has not registered.
    """
    samples, _, frames, height, width = like.shape
    followed, _ = follow(
        guider.model_patcher,
        steps=STEPS,
        frames_per_chunk=chunk_frames,
        sigmas=None,
        sigmas_first=None,
        clean_pass=clean_pass,
    )
    shots, notes = laid_out(
        {
            name: [[entry.get("cross_attn"), entry] for entry in entries]
            for name, entries in guider.conds.items()
        },
        pieces=WHOLE,
        total_frames=frames,
        chunk_frames=followed["frames_per_chunk"],
        prefix_frames=0,
        fps=WAN.fps,
        clean_pass=followed["clean_pass"],
    )
    if any(shot.scene for shot in shots.shots.get(SCENES, ())):
        notes.append(
            "The latent that comes out does not know where the film is cut, so a decoder shows the "
            "old scene for half a second after each cut: use Relax Forcing Sampler for scenes."
        )
    for name, prompts in shots.prompts.items():
        for prompt in prompts[1:]:  # the guider has the first, which is checked with it
            notes += check_conditioning(
                name,
                prompt,
                text_dim=network_of(guider.model_patcher).text_dim,
                samples=samples,
                size=(height, width),
                frames=frames,
            )
        if any("hooks" in options for prompt in prompts for _, options, *_ in prompt):
            raise ValueError(
                f"{name} carries shots with hooks, which Sampler Select cannot give to the host in "
                "time: use Relax Forcing Sampler."
            )
        shots.prompts[name] = tuple(
            [
                [text, in_videos(without_direction(options), frames), *rest]
                for text, options, *rest in prompt
            ]
            for prompt in prompts
        )
    return shots, notes


def laid_out(
    conditionings: Mapping[str, list | None],
    *,
    pieces: Film,
    total_frames: int,
    chunk_frames: int,
    prefix_frames: int,
    fps: float,
    clean_pass: bool,
) -> tuple[Shots, list[str]]:
    """The shots of a video, and what a person may not expect of them.

    Args:
        pieces: of the film that is given at the beginning; shots of the positive prompt say
            otherwise which scenes there are.

    Raises:
        ValueError: a script that does not fit the video, or shots that cannot follow on each other.
    """
    shots, prompts = {}, {}
    begins: list[str] = []
    notes: list[str] = []
    words: tuple[str, ...] = ()
    chunks = Chunks(
        total_frames=total_frames,
        chunk_frames=chunk_frames,
        prefix_frames=prefix_frames,
        fps=Fraction(fps),
    )
    for name, conditioning in conditionings.items():
        zeroed = name != SCENES and is_zeroed(conditioning or [])
        directed = direction_of(name, conditioning) if conditioning and not zeroed else None
        if directed is None:
            continue
        try:
            direction = resolve(
                directed.script,
                chunks,
                transition=directed.transition,
                blend_seconds=directed.blend_seconds,
            )
        except ScriptError as error:
            raise ValueError(f"{name}, {error}") from None
        _check(name, direction.shots, directed, clean_pass=clean_pass)
        shots[name], prompts[name] = direction.shots, directed.prompts
        whose = "" if name == SCENES else f"{name}: "
        begins += [whose + direction.begins] if direction.begins else []
        notes += [whose + note for note in direction.notes]
        if name == SCENES:
            words = tuple(cue.words for cue in directed.script.cues)
            notes += _lost_cuts(pieces, direction.shots, chunks)
    positive = conditionings.get(SCENES)
    if SCENES not in shots and len(pieces) > 1 and positive:
        scenes, told = _given(pieces, chunk_frames, prefix_frames)
        shots[SCENES], prompts[SCENES] = scenes, (positive,)
        notes += told
    return Shots(shots=shots, prompts=prompts, words=words, begins=tuple(begins)), notes


def _lost_cuts(pieces: Film, shots: Sequence[Shot], chunks: Chunks) -> list[str]:
    """What is to be said where a film that is given is cut, but by its shots goes on."""
    told = film_of((chunks.first_frame(shot.first_chunk), shot.scene) for shot in shots)
    cuts = {piece.first_frame for piece in pieces[1:]} - {piece.first_frame for piece in told}
    if not cuts:
        return []
    times = ", ".join(chunks.told(WAN.length(frame)) for frame in sorted(cuts))
    return [
        f"prefix is cut at {times} s, but no scene of positive begins there, so it is taken for "
        "one scene, and a decoder shows the old one for half a second after the cut: write the "
        "scenes of the prefix into positive too, or connect a plain prompt, which goes on with the "
        "last."
    ]


def _given(
    pieces: Film, chunk_frames: int, prefix_frames: int
) -> tuple[tuple[Shot, ...], list[str]]:
    """The scenes of a film that is given, of which the last goes on."""
    remainder = prefix_frames % chunk_frames
    if any((piece.first_frame - remainder) % chunk_frames for piece in pieces[1:]):
        told = (
            "prefix has cuts that do not lie between its chunks, so its last scene is not told "
            "from those before."
        )
        return (_scene(0, 0),), [told]
    shift = 1 if remainder else 0
    starts = ((p.first_frame - remainder) // chunk_frames + shift for p in pieces[1:])
    later = (_scene(start, piece.scene) for start, piece in zip(starts, pieces[1:], strict=True))
    return (_scene(0, 0), *later), []


def _scene(first_chunk: int, scene: int) -> Shot:
    return Shot(first_chunk=first_chunk, prompt=0, scene=scene, transition="cut")


def _check(name: str, shots: Sequence[Shot], directed: Directed, *, clean_pass: bool) -> None:
    for number, shot in enumerate(shots, 1):
        if name != SCENES and (shot.scene or shot.moment is not None):
            raise ValueError(
                f"{name} makes a cut or names a moment in shot {number}, but a film has one order "
                f"of scenes, that of {SCENES}: keep to keep, recache and blend there."
            )
        if shot.transition == "recache" and not clean_pass:
            raise ValueError(
                f"shot {number} of {name} begins with recache, which remembers finished chunks "
                "anew, but without clean passes they are remembered as they were noisy: set "
                "clean_pass to always, or use keep."
            )
        first, prompt = directed.prompts[0], directed.prompts[shot.prompt]
        if "area" in differences(first, prompt):
            raise ValueError(
                f"shot {number} of {name} has other areas than the first one, but each area has a "
                "memory of its own: give all shots the same areas, entry by entry."
            )
        if shot.transition == "blend":
            before = directed.prompts[shots[number - 2].prompt]
            unlike = differences(before, prompt)
            if unlike:
                raise ValueError(
                    f"shot {number} of {name} blends with the one before, but not only their words "
                    f"differ ({', '.join(unlike)}): use keep, or make these the same."
                )
