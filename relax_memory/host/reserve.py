"""How much memory the host sets aside for a rollout: one chunk and what is remembered.

Left to itself the host reserves for the whole clip, which no chunk ever sees, and unloads the model
to make that room.
"""

import math
from collections.abc import Callable

import comfy.patcher_extension
import comfy.samplers
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..costs import ModelShape, bank_bytes, buffer_bytes
from ..plan import Plan
from ..policies import Policy

KEY = "relax_forcing"


class ChunkedSampler(comfy.samplers.Sampler):
    """A sampler of the host that works through a plan."""

    def plan(self, policy: Policy | None, frames: int) -> Plan:
        """What is read when, for a latent of `frames` frames."""
        raise NotImplementedError


def add_reservation(model: ModelPatcher, policy: Policy) -> None:
    """Make every run of a `ChunkedSampler` on this model reserve for a chunk and its memory."""

    def outer_sample(
        executor: Callable,
        noise: Tensor,
        latent_image: Tensor,
        sampler: comfy.samplers.Sampler,
        *args: object,
        **kwargs: object,
    ) -> Tensor:
        guider = executor.class_obj
        if isinstance(sampler, ChunkedSampler):
            plan = sampler.plan(policy, noise.shape[2])
            comfy.patcher_extension.add_wrapper_with_key(
                comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING,
                KEY,
                _reservation(plan, conditionings=_evaluated(guider)),
                guider.model_options,
                is_model_options=True,
            )
        return executor(noise, latent_image, sampler, *args, **kwargs)

    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    model.remove_wrappers_with_key(kind, KEY)
    model.add_wrapper_with_key(kind, KEY, outer_sample)


def model_shape(model: ModelPatcher, height: int, width: int) -> ModelShape:
    """Cost of one latent frame of `height x width` latent pixels in this model."""
    network = model.get_model_object("diffusion_model")
    _, patch_rows, patch_columns = network.patch_size
    return ModelShape(
        layers=len(network.blocks),
        width=network.dim,
        tokens=math.ceil(height / patch_rows) * math.ceil(width / patch_columns),
        element_bytes=model.model.get_dtype_inference().itemsize,
    )


def _evaluated(guider: comfy.samplers.CFGGuider) -> int:
    """Conditionings that the guider evaluates; the negative ones are skipped at cfg 1."""
    skipped = {"negative"} if math.isclose(guider.cfg, 1.0) else set()
    return sum(len(conds) for name, conds in guider.conds.items() if name not in skipped)


def _reservation(plan: Plan, *, conditionings: int) -> Callable:
    def prepare_sampling(
        executor: Callable,
        model: ModelPatcher,
        noise_shape: list[int],
        conds: dict,
        **kwargs: object,
    ) -> tuple:
        samples, channels, frames, height, width = noise_shape
        shape = model_shape(model, height, width)
        rows = samples * conditionings
        memory = bank_bytes(plan, shape, rows=rows) + buffer_bytes(plan, shape, rows=rows)
        one_frame = model.model.memory_required([samples, channels, 1, height, width])
        worth_frames = math.ceil(memory / one_frame)
        reserved = [samples, channels, min(frames, plan.chunk_frames) + worth_frames, height, width]
        return executor(model, reserved, conds, **kwargs)

    return prepare_sampling
