"""One rollout through a guider of the host."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import comfy.model_management
import comfy.samplers
from torch import Tensor

from ...plan import Chunk, Plan
from ...rollout import rollout
from ...trace import ChunkTrace
from ..model.attention import attached, policy_of
from ..room.reserve import RESERVED_BYTES, STORAGE
from .latents import HostSource
from .session import SESSION, Session

MIXERS = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")

OnStep = Callable[[Chunk, int, Tensor, Tensor], None]


class Run:
    """One rollout through a guider of the host; owns the session, which ends with `chunks`.

    `traces` and `rows` tell what the chunks handed out so far have read.
    """

    def __init__(self, guider: comfy.samplers.CFGGuider, extra_args: dict, plan: Plan) -> None:
        self._guider = guider
        self._extra_args = extra_args
        self._plan = plan
        self.traces: list[ChunkTrace] = []
        self.rows: tuple[str, ...] = ()

    def chunks(
        self, sigmas: Tensor, source: HostSource, on_step: OnStep
    ) -> Iterator[tuple[Chunk, Tensor]]:
        """Finished chunks in order, with the latents that `source` keeps."""
        model = self._guider.model_patcher
        options = self._extra_args["model_options"].setdefault("transformer_options", {})
        storage = options[STORAGE]
        self._session = session = Session(self._plan, storage, model.load_device)

        def denoise(chunk: Chunk, x: Tensor, sigma: Tensor) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            session.begin(chunk, clean=False)
            return self._guider(x, sigma * x.new_ones(len(x)), **self._extra_args)

        # What mixes predictions may evaluate the model once more; a clean pass has nothing to mix.
        model_options = self._extra_args["model_options"].items()
        bare_options = {key: value for key, value in model_options if key not in MIXERS}
        clean_args = self._extra_args | {"model_options": bare_options}

        def remember(chunk: Chunk, kept: Tensor) -> None:
            if self._plan.has_chunk(chunk.index + 1):
                x = source.restore(kept)
                session.begin(chunk, clean=True)
                self._guider(x, x.new_zeros(len(x)), **clean_args)

        chunks = rollout(
            self._plan,
            sigmas=sigmas,
            source=source,
            denoise=denoise,
            remember=remember,
            on_step=on_step,
        )
        has_memory = policy_of(model) is not None
        with nullcontext() if has_memory else attached(model):
            options[SESSION] = session
            try:
                start = time.perf_counter()
                for chunk, kept in chunks:
                    self.traces.append(session.trace(chunk, time.perf_counter() - start))
                    self.rows = session.rows
                    start = time.perf_counter()
                    yield chunk, kept
            finally:
                chunks.close()
                del options[SESSION]

    def load_model(self, like: Tensor) -> None:
        """Bring the model back after another one was loaded to its device, as far as it fits there.

        Leaves room for a chunk, and for what it remembers unless that is there already. For use
        between two chunks.

        Args:
            like: latents of the rollout, `[B, C, t, H, W]`.
        """
        model, options = self._guider.model_patcher, self._extra_args["model_options"]
        samples, channels, _, *size = like.shape
        rows = samples * max(1, len(self._session.memories))
        chunk_bytes = model.model.memory_required([rows, channels, self._plan.chunk_frames, *size])
        reserved_bytes = options["transformer_options"].get(RESERVED_BYTES, 0)
        comfy.model_management.load_models_gpu(
            [model, *self._guider.loaded_models],
            memory_required=max(chunk_bytes, reserved_bytes - self._session.bytes),
        )
