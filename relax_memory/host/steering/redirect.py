"""A request under other words, as if it had been asked for with them.

What is made already is not touched: words change in chunks that are not begun. What is encoded
already is used again.
"""

from collections.abc import Mapping
from dataclasses import replace

from ...direction.shots import Shot
from ...storyboard import SCENES
from ..directed import encode, read_text, said
from ..request import Request
from ..shots import Shots, laid_out

WHOLE_SHOT = (Shot(first_chunk=0, prompt=0, scene=0, transition="keep"),)


def laid_anew(
    request: Request, name: str, text: str, prompts: Mapping[str, list] | None = None
) -> Shots:
    """The shots of a conditioning under another text.

    Args:
        prompts: by their words; without, those of the result are of no use.

    Raises:
        ValueError: the text is wrong, or cannot be put on this video.
    """
    source = request.sources[name]
    script = read_text(text, source.transition)
    if prompts is None:
        prompts = dict.fromkeys((cue.text for cue in script.cues), source.first)
    conditioning = said(
        script,
        prompts,
        transition=source.transition,
        blend_seconds=source.blend_seconds,
    )
    shots, _ = laid_out(
        {name: conditioning},
        pieces=request.pieces,
        total_frames=request.latent_frames,
        chunk_frames=request.frames_per_chunk,
        prefix_frames=request.prefix_frames,
        fps=request.fps,
        clean_pass=request.clean_pass,
    )
    return shots


def redirected(request: Request, name: str, text: str) -> Request:
    """The request with another text of a conditioning; words that are new are encoded.

    Raises:
        ValueError: as `laid_anew`.
    """
    source = request.sources[name]
    prompts = request.prompts.get(name) or (getattr(request, name),)
    before = read_text(source.text, source.transition).cues
    known: dict[str, list] = {}
    for cue, prompt in zip(before, prompts, strict=True):
        known.setdefault(cue.text, prompt)  # cues of equal words share the first
    for cue in read_text(text, source.transition).cues:
        if cue.text not in known:
            known[cue.text] = encode(source.clip, cue.text)
    shots = laid_anew(request, name, text, known)
    return replace(
        request,
        shots=_without(request.shots, name) | shots.shots,
        prompts=_without(request.prompts, name) | shots.prompts,
        said=shots.words if name == SCENES else request.said,
        sources=request.sources | {name: replace(source, text=text)},
    )


def ended(request: Request, latent_frames: int, chunks: int) -> Request:
    """The request of a video that ends after so many frames, which are so many chunks."""
    return replace(
        request,
        length=request.grid.length(latent_frames),
        shots={
            name: tuple(shot for shot in shots if shot.first_chunk < chunks)
            for name, shots in request.shots.items()
        },
    )


def _without(told: Mapping, name: str) -> dict:
    return {key: value for key, value in told.items() if key != name}
