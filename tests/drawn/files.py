"""Cases of files: names that people give their videos, and model files as they come.

A name is refused, or there is one whole video inside the output folder. A file gives the weights
that were put into it, or is refused; what was spoilt on purpose is never loaded.
"""

import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import families
import folder_paths
import tiny
import tiny_vae
import torch
from comfy_api.latest import InputImpl
from loading import OTHER, WEIGHTS, load, prefixed, saved
from torch import Tensor

from .judge import Verdict, judge

PIECES = (
    *(
        "video",
        "My film",
        "été",
        "映画",
        "🎬",
        "%date:yyyy-MM-dd%",
        "%date:hhmmss%",
        "%KSampler.seed%",
    ),
    *("%width%x%height%", "%%", "%", "..", ".", "...", " ", "a" * 80, "é" * 60, "x" * 250, "NUL"),
    *("con", "a:b", "a*b", "a?b", '"', "<tag>", "|", "$HOME", "~", "{0}", "%s", "%d", "\\", "\t"),
    *("\n", "\x00", "\u202e", "_00001_", ".mp4", ".partial.mp4", "-rf", "a;b", "[1]", "#", "&"),
)


def file_name(seed: int) -> Verdict:
    """Pieces and slashes in any order, as filename_prefix of Decode."""
    random = Random(seed)
    name = ""
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        name += random.choice(PIECES) + random.choice(("", "", "/", "_", "//"))
    name = random.choice(("", "", "", "/", "video/", "../")) + name
    cls = tiny.pack()["RelaxForcingDecode"]

    def make() -> str:
        with _output() as folder:
            try:
                cls.validate_inputs(filename_prefix=name)
            except ValueError as refused:
                cls.check_lazy_status(filename_prefix=name)  # what runs it says the same
                return f"refused as it is queued only: {refused}"
            made = tiny.node(
                "RelaxForcingDecode",
                samples={"samples": tiny_vae.latents(2)},
                vae=tiny_vae.vae(),
                fps=16.0,
                filename_prefix=name,
            )
            files = [path for path in folder.rglob("*") if path.is_file()]
            (video,) = made[0]
            outside = [path for path in folder.parent.iterdir() if path != folder]
            if outside or len(files) != 1 or Path(video.get_stream_source()) != files[0]:
                return f"made {files} and {outside}"
            frames = InputImpl.VideoFromFile(str(files[0])).get_components().images
            return "" if frames.shape == (5, 32, 32, 3) else f"holds {list(frames.shape)}"

    return judge(make, lambda: name)


@contextmanager
def _output() -> Iterator[Path]:
    """An output folder of the host's, alone in a folder."""
    before = folder_paths.get_output_directory()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "output"
        folder.mkdir()
        folder_paths.set_output_directory(str(folder))
        try:
            yield folder
        finally:
            folder_paths.set_output_directory(before)


def model_file(seed: int) -> Verdict:
    """A file of any layout, spoilt in half of the cases, for Load Model."""
    random = Random(seed)
    weights, dtype = dict(WEIGHTS), random.choice((torch.float32, torch.bfloat16, torch.float16))
    weights = {name: weight.to(dtype) for name, weight in weights.items()}
    expected = weights
    spoil = random.choice(sorted(SPOILT)) if random.random() < 0.5 else None
    words = [str(dtype).removeprefix("torch.")]
    if spoil in SPOILT:
        weights = SPOILT[spoil](dict(weights), random)
        words.append(spoil)
    layout = random.choice(sorted(LAYOUTS))
    words.append(layout)
    content = LAYOUTS[layout](weights, "".join(random.choices(string.ascii_lowercase, k=4)))
    nested = any(isinstance(part, dict) for part in content.values())
    ending = random.choice((".pt", ".pth", ".ckpt", ".bin") if nested else (".safetensors", ".pt"))
    cut = random.choice(CUTS) if random.random() < 0.2 else None

    def make() -> str:
        with _models() as folder:
            name = saved(folder, content, f"model{ending}")
            if cut is not None:
                path = folder / name
                path.write_bytes(cut(path.read_bytes(), random))
            model = load(name)
            held = model.model.diffusion_model.state_dict()
        if cut is not None or spoil is not None:
            return f"loaded although spoilt: {words} {ending}"
        return _other_weights(held, expected)

    return judge(make, lambda: f"{words} {ending}")


def _other_weights(held: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    if held.keys() != expected.keys():
        return f"other layers: {held.keys() ^ expected.keys()}"
    wrong = [
        name for name, weight in expected.items() if not torch.equal(held[name].to(weight), weight)
    ]
    return f"other weights: {wrong}" if wrong else ""


@contextmanager
def _models() -> Iterator[Path]:
    """The host's folder for diffusion models, empty."""
    kinds = folder_paths.folder_names_and_paths
    before = kinds["diffusion_models"]
    with tempfile.TemporaryDirectory() as place:
        kinds["diffusion_models"] = ([place], folder_paths.supported_pt_extensions)
        try:
            yield Path(place)
        finally:
            kinds["diffusion_models"] = before
            folder_paths.filename_list_cache.pop("diffusion_models", None)


def _some_weight(random: Random, weights: dict[str, Tensor]) -> str:
    return random.choice(sorted(name for name in weights if weights[name].ndim > 1))


def _missing(weights: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    del weights[random.choice(sorted(weights))]
    return weights


def _of_another_kind(weights: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    name = _some_weight(random, weights)
    kinds = (torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool)
    return weights | {name: weights[name].mul(50).to(random.choice(kinds))}


def _not_finite(weights: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    name = random.choice(sorted(weights))
    spoilt = weights[name].clone()
    spoilt.view(-1)[random.randrange(spoilt.numel())] = random.choice((torch.nan, torch.inf))
    return weights | {name: spoilt}


def _of_another_shape(weights: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    name = _some_weight(random, weights)
    return weights | {name: weights[name][: len(weights[name]) // 2].clone()}


def _scaled(weights: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    name = "blocks.1.self_attn.k.weight"
    scale = random.choice(("scale_weight", "weight_scale", "scale", "weight.absmax"))
    stored = (weights[name].float() * 100).to(torch.float8_e4m3fn)
    return weights | {name: stored, f"blocks.1.self_attn.k.{scale}": torch.tensor(0.01)}


SPOILT = {
    "a layer missing": _missing,
    "integers": _of_another_kind,
    "not finite": _not_finite,
    "half a layer": _of_another_shape,
    "scales without a mark": _scaled,
    "no weights": lambda weights, random: {"epoch": torch.tensor(3)},
}
LAYOUTS = {
    "plain": lambda weights, word: dict(weights),
    "under a prefix": lambda weights, word: prefixed(f"{word}.", weights),
    "of the host": lambda weights, word: prefixed("model.diffusion_model.", weights),
    "nested": lambda weights, word: {"generator_ema": weights},
    "nested twice": lambda weights, word: {"generator_ema": prefixed("model.", weights), "step": 7},
    "wrapped": lambda weights, word: {"generator": prefixed(families.FSDP, weights)},
    "with a critic": lambda weights, word: {"generator": weights, "critic": OTHER},
    "of diffusers": lambda weights, word: families.diffusers(weights),
}
CUTS = (
    lambda content, random: content[: random.randrange(len(content))],
    lambda content, random: b"",
    lambda content, random: b"<!DOCTYPE html><html>" + content[:100],
    lambda content, random: random.randbytes(2000),
    lambda content, random: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
)
