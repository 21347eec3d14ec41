"""The real host and the pack on simulated cards. Import it before anything of the host.

The host looks for cards as it is imported; `tiny` would tell it to use the CPU, which is too late
by then, and is taken back.
"""

import functools
import itertools
import sys

import torch
from device import cuda
from device.cards import CARDS, CONTEXT_BYTES
from device.ledger import LEDGER

CARD_BYTES = 24 << 30
cuda.install(cards=2, total_bytes=CARD_BYTES)

import comfy.model_management  # noqa: E402  (finds the cards)
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import tiny  # noqa: E402
import tiny_vae  # noqa: E402

tiny.args.cpu = False
assert comfy.model_management.get_torch_device() == torch.device("cuda", 0)

SIZE = {"width": 32, "height": 32}
VIDEO = SIZE | {"length": 4 * 17 + 1, "seed": 5, "frames_per_chunk": 3}  # 6 chunks
SIGMAS = torch.tensor([1.0, 0.625, 0.0])


weights = functools.cache(tiny.state_dict)  # made before there is dynamic VRAM, which makes none
vae_weights = functools.cache(tiny_vae.state_dict)


@functools.cache
def model(
    device: str = "cuda:0", dtype: torch.dtype = torch.float32, layers: int = 2, **shape: int
):
    """The small model as a card computes it: on a CPU the host would compute bf16 in f32.

    `shape` makes it another one, see `small.transformer`.
    """
    loaded = comfy.sd.load_diffusion_model_state_dict(
        dict(weights(layers=layers, **shape)), model_options={"dtype": dtype}
    )
    loaded.set_model_compute_dtype(dtype)
    loaded.load_device = torch.device(device)
    return loaded


@functools.cache
def vae(device: str = "cuda:0", kind: str = "wan"):
    loaded = comfy.sd.VAE(sd=dict(vae_weights(kind, 4)))
    loaded.device = loaded.patcher.load_device = torch.device(device)
    return loaded


def remembering(model, **settings):
    """With a memory node: the paper's settings, but a reservoir of 12 frames."""
    settings = tiny.MEMORY | {"reservoir_frames": 12} | settings
    return tiny.node("RelaxForcingMemory", model=model, **settings)[0]


def sample(model, node: str = "RelaxForcingSampler", **inputs) -> torch.Tensor:
    """The latents of a video by one of our nodes."""
    usual = {"steps": 1, "cfg": 1.0, "batch_size": 1, "autosave": False}
    inputs = VIDEO | usual | {"positive": tiny.conditioning(1)} | inputs
    if inputs["cfg"] != 1.0:
        inputs["negative"] = tiny.conditioning(2)
    with torch.inference_mode():
        out = tiny.node(node, model=model, **inputs)
    return next(each["samples"] for each in out if isinstance(each, dict) and "samples" in each)


def sample_custom(model, cfg: float = 1.0, rows: int = 1, frames: int = 18) -> torch.Tensor:
    """The same by the host's custom sampling."""
    (sampler,) = tiny.node("RelaxForcingSamplerSelect", frames_per_chunk=3)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tiny.conditioning(1), tiny.conditioning(2))
    guider.set_cfg(cfg)
    noise = torch.randn(rows, 16, frames, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return guider.sample(noise, noise * 0, sampler, SIGMAS, disable_pbar=True, seed=11).cpu()


def stream(model, vae, **inputs) -> torch.Tensor:
    """The latents of a video that is written while it is sampled."""
    return sample(model, "RelaxForcingStream", vae=vae, filename_prefix="video/card", **inputs)


def part(name: str):
    """A module of the pack as the host loaded it, such as "memory.recall"."""
    tiny.pack()
    ends = f".relax_memory.{name}"
    return next(module for key, module in sys.modules.items() if key.endswith(ends))


def unload_all() -> None:
    """As the host does when told to free all: models, and buffers that weights pass through."""
    comfy.model_management.unload_all_models()
    comfy.model_management.reset_cast_buffers()


def room_beside(weights_bytes: int) -> int:
    """The size of a card on which so many bytes of weights fit beside what the host spares."""
    spared = comfy.model_management.minimum_inference_memory()
    return int(CONTEXT_BYTES + spared + weights_bytes)


def watched(model, marks: list):
    """A clone that adds to `marks`, before each call of the network, what the ledger has."""
    clone = model.clone()

    def call(network, arguments: dict):
        marks.append(LEDGER.snapshot() | {"allocations": CARDS[0].allocations})
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    clone.set_model_unet_function_wrapper(call)
    return clone


def stop_at_call(model, count: int) -> None:
    """Interrupt the run at a call of the network, counted from 0."""
    calls = itertools.count()

    def call(network, arguments: dict):
        if next(calls) == count:
            raise comfy.model_management.InterruptProcessingException
        return network(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(call)


def chunk_cost(marks: list, chunk: int, passes: int) -> dict[str, int]:
    """What a chunk cost from its first pass to the first one of the next; a pass is one call."""
    start, end = marks[chunk * passes], marks[(chunk + 1) * passes]
    return {key: end[key] - start[key] for key in start}
