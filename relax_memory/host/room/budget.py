"""Where a rollout's memory goes on this machine, and whether it fits.

Decides before sampling, from computed bytes and measured free memory; knows no session.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ...memory.costs import Costs, ModelShape, costs
from ...memory.storage import Held, Storage, supports_fp8
from ...picture.words import gigabytes
from ...policies import Policy
from ...storyboard import Storyboard
from ..model.family import network_of
from ..model.positions import angle_bytes
from ..model.text import text_bytes

ONE_MEMORY = ("cpu", "mps")  # devices that compute in host memory
STREAMS = 2  # by which the host brings weights to cards that do not hold all of them

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bytes of one rollout. `*_free_bytes` count what the host can unload as free.

    Three sizes are easily taken for each other: `device_bytes` is what this rollout needs beside
    the weights; as many are *reserved*, that is, asked of the host before it loads; and *spared*
    are those that a VAE needs there in turns with the model, which "auto" leaves free. `scenes` are
    the costs of each, `costs` those of all of the film at any one time. `matrix_bytes` are the
    largest weights of a block; where not all stay on the device the host leaves room for some.
    """

    policy: Policy
    storage: Storage
    weights_bytes: int
    chunk_bytes: int
    costs: Costs
    device: torch.device
    device_free_bytes: int
    host_free_bytes: int
    scenes: tuple[Costs, ...] = ()
    matrix_bytes: int = 0

    @property
    def device_bytes(self) -> int:
        """Needed on the device beside the weights, which the host may offload in part."""
        costs = self.costs
        stored = costs.crossing_bytes if self.storage.device == "cpu" else costs.bank_bytes
        return self.chunk_bytes + costs.buffer_bytes + stored

    @property
    def host_bytes(self) -> int:
        """Needed in host memory."""
        return self.costs.bank_bytes if self.storage.device == "cpu" else 0

    @property
    def resident_bytes(self) -> int:
        """Of the weights, those that stay on the device beside this; the host streams the rest.

        As its `load_models_gpu` reckons on NVIDIA cards, where all else can be unloaded.
        """
        management = comfy.model_management
        needed = self.device_bytes + management.extra_reserved_memory()
        room = self.device_free_bytes - max(needed, management.minimum_inference_memory())
        if self.weights_bytes <= room:
            return self.weights_bytes
        return max(0, int(room) - (STREAMS + 1) * self.matrix_bytes)

    @property
    def promised_bytes(self) -> int:
        """The most that a run takes of the device, its weights included."""
        resident_bytes = self.resident_bytes
        on_their_way = STREAMS * self.matrix_bytes * (resident_bytes < self.weights_bytes)
        return self.device_bytes + resident_bytes + on_their_way

    @property
    def fits(self) -> bool:
        needed = self.device_bytes, self.host_bytes
        if self.device.type in ONE_MEMORY:
            return sum(needed) <= self.device_free_bytes
        return needed[0] <= self.device_free_bytes and needed[1] <= self.host_free_bytes


def model_shape(model: ModelPatcher, height: int, width: int) -> ModelShape:
    """Cost of one latent frame of `height x width` latent pixels in this model."""
    network = network_of(model)
    _, patch_rows, patch_columns = network.patch_size
    return ModelShape(
        layers=len(network.blocks),
        heads=network.num_heads,
        head_dim=network.dim // network.num_heads,
        tokens=math.ceil(height / patch_rows) * math.ceil(width / patch_columns),
        element_bytes=model.model.get_dtype_inference().itemsize,
    )


def make_budget(  # noqa: PLR0913  (all by name, all of one size)
    model: ModelPatcher,
    storyboard: Storyboard,
    storage: Storage,
    *,
    rows: int,
    height: int,
    width: int,
    text_tokens: int = 0,
    spared_bytes: int = 0,
) -> Budget:
    """The budget of a rollout with latent frames of `height x width`; "auto" is decided here.

    Args:
        rows: samples x conditionings that are evaluated.
        text_tokens: of the longest prompt, 0 where it is not known.
        spared_bytes: of the device, that "auto" leaves free.
    """
    device = model.load_device
    if storage.dtype == "fp8" and not supports_fp8(device):
        log.warning("reservoir_dtype: %s cannot store fp8, so model precision is used.", device)
        storage = replace(storage, dtype="model")
    shape = model_shape(model, height, width)
    scenes = tuple(costs(plan, shape, storage, rows=rows) for plan in storyboard.plans)
    budget = Budget(
        policy=storyboard.policy,
        storage=storage,
        weights_bytes=model.model_size(),
        matrix_bytes=max(weight.nbytes for weight in network_of(model).blocks.parameters()),
        chunk_bytes=angle_bytes(
            shape.tokens,
            shape.head_dim,
            read_frames=max(plan.buffer_frames for plan in storyboard.plans),
            rope=storyboard.policy.rope,
        )
        + rows * text_bytes(network_of(model), text_tokens, shape.element_bytes)
        + int(
            model.model.memory_required(
                [
                    rows,
                    model.model.latent_format.latent_channels,
                    storyboard.chunk_frames,
                    height,
                    width,
                ]
            )
        ),
        costs=_at_once(scenes, moments_bytes=rows * len(storyboard.moments) * shape.frame_bytes),
        device=device,
        device_free_bytes=_free_bytes(device, model),
        host_free_bytes=_free_bytes(torch.device("cpu"), model),
        scenes=scenes,
    )
    return settled(budget, spared_bytes)


def beside(budget: Budget, held: Held) -> Budget:
    """The budget of a rollout that goes on, to which what it holds is as good as free."""
    here = sum(held) if budget.device.type in ONE_MEMORY else held.device_bytes
    return replace(
        budget,
        device_free_bytes=budget.device_free_bytes + here,
        host_free_bytes=budget.host_free_bytes + held.host_bytes,
    )


def settled(budget: Budget, spared_bytes: int = 0) -> Budget:
    """With "auto" decided: on the device, unless weights would have to go from there."""
    if budget.storage.device != "auto":
        return budget
    here, there = (
        replace(budget, storage=replace(budget.storage, device=name)) for name in ("gpu", "cpu")
    )
    kept_bytes = spared_bytes + comfy.model_management.extra_reserved_memory()
    leaves_room = here.promised_bytes + kept_bytes <= budget.device_free_bytes
    drives_none_out = here.resident_bytes == there.resident_bytes
    if budget.device.type in ONE_MEMORY or (drives_none_out and leaves_room):
        return here
    return there


def _at_once(scenes: Sequence[Costs], moments_bytes: int) -> Costs:
    """Those of the scene that needs most, as one is remembered at a time, and of all moments."""
    return Costs(
        bank_bytes=max(scene.bank_bytes for scene in scenes),
        buffer_bytes=max(scene.buffer_bytes for scene in scenes) + moments_bytes,
        crossing_bytes=max(scene.crossing_bytes for scene in scenes),
    )


def check_budget(budget: Budget) -> None:
    """Say where memory goes.

    Raises:
        ValueError: it does not fit; says which setting to change and what that saves.
    """
    where = "host memory" if budget.storage.device == "cpu" else str(budget.device)
    log.info(
        "Relax Forcing: %s remembered in %s as %s, %s read by attention, %s for a chunk.",
        gigabytes(budget.costs.bank_bytes),
        where,
        budget.storage.dtype,
        gigabytes(budget.costs.buffer_bytes),
        gigabytes(budget.chunk_bytes),
    )
    if budget.fits:
        return
    free = f"{gigabytes(budget.device_free_bytes)} are free on {budget.device}"
    if budget.host_bytes:
        free += f" and {gigabytes(budget.host_free_bytes)} in host memory"
    raise ValueError(
        f"This video needs {gigabytes(budget.device_bytes)} on {budget.device} beside the weights "
        f"and {gigabytes(budget.host_bytes)} in host memory, but {free}: "
        f"{'; or '.join(_ways(budget))}."
    )


def _ways(budget: Budget) -> list[str]:
    bank, buffer = budget.costs.bank_bytes, budget.costs.buffer_bytes
    ways = []
    if budget.policy.stored_by_choice:
        if budget.storage.device != "cpu" and budget.device.type not in ONE_MEMORY:
            ways.append(f'set reservoir_device to "cpu" (moves {gigabytes(bank)} off the GPU)')
        if budget.storage.dtype != "fp8":
            ways.append(f'set reservoir_dtype to "fp8" (saves up to {gigabytes(0.48 * bank)})')
    for saving in budget.policy.savings():
        ways.append(f"{saving.words} (saves up to {gigabytes(saving.share * bank)})")
    ways.append(
        "halve batch_size or the number of pixels "
        f"(saves {gigabytes((bank + buffer + budget.chunk_bytes) / 2)})"
    )
    return ways


def _free_bytes(device: torch.device, model: ModelPatcher) -> int:
    """Free for a rollout of `model`, with what the host unloads when it is asked to."""
    loaded = [m for m in comfy.model_management.current_loaded_models if m.model is not None]
    if device.type == "cpu":  # with dynamic VRAM the host keeps copies of weights there
        given_back = sum(m.model.loaded_ram_size() for m in loaded if m.model.model != model.model)
    else:
        given_back = sum(m.model_loaded_memory() for m in loaded if m.device == device)
    return int(comfy.model_management.get_free_memory(device) + given_back)
