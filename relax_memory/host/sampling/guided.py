"""One rollout through a guider of the host: every prediction is a call of the guider.

What is remembered of it, and when, is `Remembering`'s.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ...keepers import Finished
from ...passes import Chunk, Pass, Schedule
from ...rollout import OnStep, rollout
from ...storyboard import Storyboard
from ..gates.unused import unused_patches
from ..gates.words import listed
from ..model.attention import attached, check_attention
from ..model.suspects import hooks, name_of, suspects
from ..model.text import texts_of
from ..options import KEY, Options
from .blame import blaming
from .latents import HostSource
from .ledger import Ledger
from .remembering import Remembering
from .session import NoMemoryYet, Session


class GuidedRollout:
    """Makes the chunks of a film; the session is over with `chunks`, or is handed on.

    Args:
        options: the film, and how the model remembers.
        source: keeps the latents of finished chunks.
        has_node: whether a memory node has put our attention into the model.
        finished_frames: how much of the video is there already.
        noisy: by chunk, what the last steps of those frames were given where these are remembered.
            Those of other chunks are put there.
        session: of the run that made the last of those frames, to go on with.
    """

    def __init__(  # noqa: PLR0913  (all of one run)
        self,
        guider: comfy.samplers.CFGGuider,
        extra_args: dict,
        options: Options,
        *,
        schedule: Schedule,
        source: HostSource,
        has_node: bool,
        finished_frames: int = 0,
        noisy: dict[int, Tensor] | None = None,
        session: Session | None = None,
    ) -> None:
        self._guider = guider
        self._extra_args = extra_args
        assert options.film is not None, "what reserves room knows the film"
        self.storyboard, self._prompts = options.film
        self._options = options
        self._schedule, self._source = schedule, source
        self._has_node = has_node
        self._finished_frames = finished_frames
        self._noisy = {} if noisy is None else noisy
        model_options = extra_args["model_options"]
        model_options.setdefault("transformer_options", {})
        self._network = guider.model_patcher.model.diffusion_model
        self._ledger = Ledger(partial(suspects, model_options, self._network))
        self._goes_on = session is not None
        if session is not None:
            session.follow(self.storyboard)
        self.session = session or Session(
            self.storyboard,
            options.storage,
            guider.model_patcher.load_device,
            unused=unused_patches(model_options["transformer_options"]),
        )
        self.session.start(self._ledger, options.parked)
        self._past = Remembering(
            guider,
            extra_args,
            self.session,
            speak=self._prompts.speaker(guider),
            schedule=schedule,
            source=source,
            noisy=self._noisy,
        )

    def chunks(self, on_step: OnStep) -> Generator[Finished, None, None]:
        """Finished chunks in order, with the latents that are kept.

        Raises:
            RuntimeError: the model's answer is not finite, or something answered for the model.
        """
        chunks = rollout(
            self._to_make(),
            schedule=self._schedule,
            source=self._source,
            denoise=self._denoise,
            remember=self._past.remember,
            on_step=on_step,
        )
        transformer_options = self._extra_args["model_options"]["transformer_options"]
        ours = nullcontext() if self._has_node else attached(self._guider.model_patcher)
        model = self._guider.model_patcher.model
        theirs = partial(hooks, self._extra_args["model_options"], self._network)
        watching = self._past.watching(transformer_options)
        with ours, blaming(theirs), watching, self._running(transformer_options):
            try:
                check_attention(self._network, partial(comfy.utils.get_attr, model))
                for chunk, kept in chunks:
                    _check_finite(chunk, kept, self.storyboard, theirs)
                    seconds = time.perf_counter() - self._start
                    words = self._prompts.told(chunk) if self.storyboard.shots else ""
                    trace = self.session.trace(chunk, seconds, words)
                    yield Finished(
                        chunk=chunk,
                        latents=kept,
                        trace=trace,
                        rows=self.session.rows(chunk.scene),
                        noisy=self._noisy.get(chunk.film_index),
                    )
            finally:
                chunks.close()

    @contextmanager
    def _running(self, transformer_options: dict) -> Iterator[None]:
        """Let attention know of this run."""
        before = transformer_options.get(KEY)
        transformer_options[KEY] = replace(self._options, session=self.session)
        try:
            yield
        finally:
            if before is None:
                del transformer_options[KEY]
            else:
                transformer_options[KEY] = before

    def _to_make(self) -> Iterator[Chunk]:
        """The chunks that are not there, each when all that it reads is remembered."""
        before = None
        if self._goes_on:
            before = self.storyboard.chunk(self.storyboard.chunk_of(self._finished_frames - 1))
            self._past.complete_to(before)
        for chunk in self.storyboard:
            if chunk.film_frame >= self._finished_frames:
                if before is not None and before.scene != chunk.scene:
                    self._past.leave(before)
                before = chunk
                self._past.recall(chunk)
                self._start = time.perf_counter()
                yield chunk

    def _denoise(self, pass_: Pass, x: Tensor, sigma: Tensor) -> Tensor:
        """A step; where it is remembered, a pass of its own does that if predictions are mixed."""
        if not pass_.remembered:
            return self._predict(pass_, x, sigma)
        device = comfy.model_management.intermediate_device()
        self._noisy[pass_.chunk.film_index] = kept = x.to(device, copy=True)
        if not self._past.mixes and self.storyboard.is_read(pass_.chunk):
            return self._predict(pass_, x, sigma)
        x0 = self._predict(replace(pass_, remembered=False), x, sigma)
        self._past.remember(pass_, kept)
        return x0

    def _predict(self, pass_: Pass, x: Tensor, sigma: Tensor) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        sigma = sigma * x.new_ones(len(x))
        while True:
            self._past.begin(pass_)
            try:
                x0 = self._guider(x, sigma, **self._extra_args)
            except NoMemoryYet as missing:
                if pass_.remembered:  # others may have gone on to the next chunk
                    raise RuntimeError(
                        f"The {missing.stream} conditioning takes part for the first time in the "
                        f"last step of chunk {pass_.chunk.film_index + 1}, which is remembered: "
                        "set clean_pass to always, or let it take part in an earlier step."
                    ) from missing
                self._past.catch_up(missing, pass_.chunk)
            else:
                if pass_.remembered:
                    self._past.complete(x, sigma)
                else:
                    self._ledger.close()
                return x0

    def load_model(self, like: Tensor) -> None:
        """Bring the model back as far as it fits, when it had to go for another one.

        Leaves room for a chunk, and for what it remembers unless that is there already. For use
        between two chunks.

        Args:
            like: latents of the rollout, `[B, C, t, H, W]`.
        """
        model = self._guider.model_patcher
        samples, channels, _, *size = like.shape
        rows = samples * max(1, len(self.session.memories))
        chunk_bytes = model.model.memory_required(
            [rows, channels, self.storyboard.chunk_frames, *size]
        )
        comfy.model_management.load_models_gpu(
            [model, *self._guider.loaded_models],
            memory_required=max(chunk_bytes, self._options.reserved_bytes - self.session.bytes),
        )
        texts_of(self._network).forget()  # weights that were merged may come back rounded otherwise


def _check_finite(
    chunk: Chunk, kept: Tensor, storyboard: Storyboard, hooks: Callable[[], list[Callable]]
) -> None:
    if not math.isfinite(torch.linalg.vector_norm(kept, math.inf)):  # one launch, one number
        names = f" (model has {listed(map(name_of, hooks()))})" if hooks() else ""
        raise RuntimeError(
            f"Chunk {chunk.film_index + 1} of {storyboard.chunk_count} came out of the model as "
            "NaN or infinite numbers, so the run stops and nothing of this chunk is kept. Remove "
            f"nodes that change the model or its attention{names}, start ComfyUI without "
            "--use-sage-attention, or compute in bf16 or fp32 instead of fp16, and queue again."
        )
