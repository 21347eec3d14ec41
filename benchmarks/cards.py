"""What cards of 6 to 24 GB are good for: computed as a run computes it, without a card.

Makes the tables of docs/cards.md, which lie there between marks, from the host's own models, which
have sizes here and no weights, and from the pack's own budget. `--write` writes the page, else it
is printed.

    python run.py bench cards --write
"""

import argparse
import contextlib
import functools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from comfy.cli_args import args

args.cpu = True  # before anything of the host looks for a GPU

import comfy.model_detection  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.ops  # noqa: E402
from comfy.ldm.wan.model import WanModel  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402

from relax_memory.grid import WAN  # noqa: E402
from relax_memory.host.room.budget import Budget, make_budget, model_shape  # noqa: E402
from relax_memory.host.room.cards import (  # noqa: E402
    SIZES,
    longest_reservoir,
    on_card,
)
from relax_memory.memory.storage import Storage  # noqa: E402
from relax_memory.policies import RelaxedMemory  # noqa: E402
from relax_memory.storyboard import Storyboard  # noqa: E402

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cards.md"
MODELS = {
    "1.3B": {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30},
    "14B": {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40},
}
PICTURES = {"480p": (832, 480), "720p": (1280, 720)}
WEIGHTS = ("bf16", "fp8", "GGUF Q8")
Q8_BITS = 8.5  # 32 values of one byte share a scale of two
HOST_SIZES = (8, 16, 32, 64)
FILM = Storyboard(RelaxedMemory(), total_frames=240, chunk_frames=3)  # a minute


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/cards.md")
    options = parser.parse_args()
    if options.write:
        PAGE.write_text(page(), "utf-8")
        print(f"Wrote {PAGE}")
    else:
        print(page())


def page() -> str:
    """The page of the docs with its tables made anew."""
    with nvidia_under_linux():
        cards = [line for name in MODELS for size in PICTURES for line in (*_cards(name, size), "")]
        tables = {"cards": cards, "reservoirs": [*_reservoirs(), ""]}
    text = PAGE.read_text("utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- computed: {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = "\n".join((f"{before}{begin}", *lines, f"{end}{after}"))
    return text


@contextlib.contextmanager
def nvidia_under_linux() -> Iterator[None]:
    """Let the host reckon as it does there: fused attention, and so much left alone."""
    management = comfy.model_management
    before = management.pytorch_attention_flash_attention, management.EXTRA_RESERVED_VRAM
    management.pytorch_attention_flash_attention = lambda: True
    management.EXTRA_RESERVED_VRAM = 400 << 20
    try:
        yield
    finally:
        management.pytorch_attention_flash_attention, management.EXTRA_RESERVED_VRAM = before


@functools.cache
def model(name: str, weights: str) -> ModelPatcher:
    """The host's model, whose weights have sizes and no memory."""
    with torch.device("meta"):
        network = WanModel(operations=comfy.ops.manual_cast, dtype=torch.bfloat16, **MODELS[name])
    state = network.state_dict()
    config = comfy.model_detection.model_config_from_unet(state, "")
    kind = torch.float8_e4m3fn if weights == "fp8" else torch.bfloat16
    config.set_inference_dtype(kind, torch.bfloat16)
    cpu = torch.device("cpu")
    patcher = ModelPatcher(config.get_model(state, "", device="meta"), cpu, cpu)
    if weights == "GGUF Q8":  # matrices are packed, all else is float32
        sizes = (w.numel() * (Q8_BITS / 8 if w.dim() == 2 else 4) for w in state.values())
        patcher.size = int(sum(sizes))
    return patcher


@functools.cache
def budget(name: str, weights: str, picture: str, dtype: str = "model") -> Budget:
    """Of the film on a device that nobody has seen yet, with all the host memory in the world."""
    width, height = PICTURES[picture]
    size = {"rows": 1, "height": height // 8, "width": width // 8}
    made = make_budget(model(name, weights), FILM, Storage(dtype=dtype), **size)
    return replace(made, host_free_bytes=sys.maxsize)


def _cards(name: str, picture: str) -> Iterator[str]:
    width, height = PICTURES[picture]
    plain = budget(name, "bf16", picture)
    beside = plain.chunk_bytes + plain.costs.buffer_bytes + plain.costs.crossing_bytes
    yield f"**{name}, {picture}** ({width}x{height}), {_gb(beside)} beside the weights:"
    yield ""
    yield f"| weights | {' | '.join(f'{size} GB' for size in SIZES)} |"
    yield "|---" * (len(SIZES) + 1) + "|"
    for weights in WEIGHTS:
        kinds = [budget(name, weights, picture, dtype) for dtype in ("model", "fp8")]
        cells = [_cell(*(on_card(b, size << 30, _auto(b)) for b in kinds)) for size in SIZES]
        yield f"| {weights}, {_gb(kinds[0].weights_bytes)} | {' | '.join(cells)} |"


def _cell(plain: Budget, fp8: Budget) -> str:
    if not plain.fits:
        return "too small"
    whole = plain.resident_bytes == plain.weights_bytes
    words = f"{'all' if whole else _gb(plain.resident_bytes)} / {_place(plain)}"
    return words if _place(plain) == _place(fp8) else f"{words} (fp8: {_place(fp8)})"


def _place(budget: Budget) -> str:
    return "host" if budget.host_bytes else "card"


def _auto(budget: Budget) -> Storage:
    return replace(budget.storage, device="auto")


def _reservoirs() -> Iterator[str]:
    columns = [f"{size} GB hold" for size in HOST_SIZES]
    yield f"| | reservoir_dtype | 30 s | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 3) + "|"
    for name in MODELS:
        for picture, (width, height) in PICTURES.items():
            shape = model_shape(model(name, "bf16"), height // 8, width // 8)
            for dtype in ("model", "fp8"):
                stored = budget(name, "bf16", picture, dtype).costs.bank_bytes
                held = [_seconds(shape, dtype, size << 30) for size in HOST_SIZES]
                yield f"| {name}, {picture} | {dtype} | {_gb(stored)} | {' | '.join(held)} |"


def _seconds(shape, dtype: str, free_bytes: int) -> str:
    (plan,) = FILM.plans
    storage = Storage(dtype=dtype)
    return f"{WAN.seconds(longest_reservoir(FILM.policy, shape, storage, free_bytes, plan=plan)):g}"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


if __name__ == "__main__":
    main()
