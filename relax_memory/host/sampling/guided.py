"""One rollout through a guider of the host: every pass is a call of the guider."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ...keepers import Finished
from ...memory.transfer import upload
from ...passes import Chunk, Pass
from ...rollout import OnStep, rollout
from ...schedule import Schedule
from ...storyboard import Storyboard
from ..model.attention import attached, check_attention
from ..model.suspects import hooks, suspects
from ..notice import tell
from ..options import KEY, Options
from ..room.residence import Residence
from .blame import blaming
from .entries import Entries
from .latents import HostSource
from .ledger import Ledger, Stream
from .session import NoMemoryYet, Session

MIXERS = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")


class GuidedRollout:
    """Makes the chunks of a film; owns the session, which ends with `chunks`.

    Args:
        options: the film, and how the model remembers.
        has_node: whether a memory node has put our attention into the model.
        finished_frames: how much of the video is there already.
        noisy: by chunk, what the last steps of those frames were given where these are remembered.
            Those of other chunks are put there.
    """

    def __init__(
        self,
        guider: comfy.samplers.CFGGuider,
        extra_args: dict,
        options: Options,
        *,
        has_node: bool,
        finished_frames: int = 0,
        noisy: dict[int, Tensor] | None = None,
    ) -> None:
        self._guider = guider
        self._extra_args = extra_args
        assert options.film is not None, "what reserves room knows the film"
        self.storyboard, prompts = options.film
        self._options = options
        self._has_node = has_node
        self._finished_frames = finished_frames
        self._noisy = {} if noisy is None else noisy
        model_options = extra_args["model_options"]
        model_options.setdefault("transformer_options", {})
        self._network = guider.model_patcher.model.diffusion_model
        self._ledger = Ledger(partial(suspects, model_options, self._network))
        self._session = Session(
            self.storyboard, options.storage, guider.model_patcher.load_device, self._ledger
        )
        self._entries = Entries(guider, self._session)
        self._residence = Residence(guider.model_patcher)
        self._prompts = prompts
        self._speak = prompts.speaker(guider)
        self._remembered: dict[int, int] = {}  # chunks of each scene
        # What mixes predictions may evaluate the model once more; where nothing is predicted it has
        # nothing to mix.
        self._unmixed_options = {k: v for k, v in model_options.items() if k not in MIXERS}

    def chunks(self, schedule: Schedule, source: HostSource, on_step: OnStep) -> Iterator[Finished]:
        """Finished chunks in order, with the latents that `source` keeps.

        Raises:
            RuntimeError: the model's answer is not finite, or something answered for the model.
        """
        self._schedule, self._source = schedule, source
        chunks = rollout(
            self._to_make(),
            schedule=schedule,
            source=source,
            denoise=self._denoise,
            remember=self._remember,
            on_step=on_step,
        )
        transformer_options = self._extra_args["model_options"]["transformer_options"]
        ours = nullcontext() if self._has_node else attached(self._guider.model_patcher)
        model = self._guider.model_patcher.model
        theirs = partial(hooks, self._extra_args["model_options"], self._network)
        watching = self._entries.watching(transformer_options, self._catch_up_within)
        with ours, blaming(theirs), watching, self._running(transformer_options):
            try:
                check_attention(self._network, partial(comfy.utils.get_attr, model))
                for chunk, kept in chunks:
                    _check_finite(chunk, kept, self.storyboard)
                    seconds = time.perf_counter() - self._start
                    trace = self._session.trace(chunk, seconds, self._prompts.told(chunk))
                    self._residence.note()
                    yield Finished(
                        chunk=chunk,
                        latents=kept,
                        trace=trace,
                        rows=self._session.rows(chunk.scene),
                        noisy=self._noisy.get(chunk.film_index),
                    )
            finally:
                chunks.close()

    @contextmanager
    def _running(self, transformer_options: dict) -> Iterator[None]:
        """Let attention know of this run."""
        before = transformer_options.get(KEY)
        transformer_options[KEY] = replace(self._options, session=self._session)
        try:
            yield
        finally:
            if before is None:
                del transformer_options[KEY]
            else:
                transformer_options[KEY] = before

    def _to_make(self) -> Iterator[Chunk]:
        """The chunks that are not there, each when all that it reads is remembered."""
        scene = None
        for chunk in self.storyboard:
            if chunk.film_frame >= self._finished_frames:
                if scene not in (None, chunk.scene):
                    self._leave(scene)
                scene = chunk.scene
                self._recall(chunk)
                self._start = time.perf_counter()
                yield chunk

    def _denoise(self, pass_: Pass, x: Tensor, sigma: Tensor) -> Tensor:
        """A step; where it is remembered, a pass of its own does that if predictions are mixed."""
        if not pass_.remembered:
            return self._predict(pass_, x, sigma)
        device = comfy.model_management.intermediate_device()
        self._noisy[pass_.chunk.film_index] = kept = x.to(device, copy=True)
        mixed = len(self._unmixed_options) < len(self._extra_args["model_options"])
        if not mixed and self.storyboard.is_read(pass_.chunk):
            return self._predict(pass_, x, sigma)
        x0 = self._predict(replace(pass_, remembered=False), x, sigma)
        self._remember(pass_, kept)
        return x0

    def _predict(self, pass_: Pass, x: Tensor, sigma: Tensor) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        sigma = sigma * x.new_ones(len(x))
        while True:
            self._begin(pass_)
            try:
                x0 = self._guider(x, sigma, **self._extra_args)
            except NoMemoryYet as missing:
                if pass_.remembered:  # others may have gone on to the next chunk
                    raise RuntimeError(
                        f"The {missing.stream} conditioning takes part for the first time in the "
                        f"last step of chunk {pass_.chunk.film_index + 1}, which is remembered: "
                        "set clean_pass to always, or let it take part in an earlier step."
                    ) from missing
                self._catch_up(missing, pass_.chunk)
            else:
                if pass_.remembered:
                    self._complete(x, sigma)
                else:
                    self._ledger.close()
                return x0

    def _begin(self, pass_: Pass) -> None:
        self._session.begin(pass_)
        self._speak(pass_.chunk, pass_.clean)

    def _remember(self, pass_: Pass, kept: Tensor) -> None:
        """Remember a chunk by a pass that predicts nothing, if it is read."""
        if self.storyboard.is_read(pass_.chunk):
            self._remember_whole(pass_, kept)

    def _remember_whole(self, pass_: Pass, kept: Tensor) -> None:
        """A pass of what the guider evaluates, and of all else that has a memory.

        Before it that of the chunk before once more, where words change with the next chunk.
        """
        self._remember_again(pass_.chunk, self._session.known_in(pass_.chunk.scene))
        x, sigma = self._input(pass_, kept)
        self._begin(pass_)
        self._guider(x, sigma, **self._extra_args | {"model_options": self._unmixed_options})
        self._complete(x, sigma)

    def _complete(self, x: Tensor, sigma: Tensor) -> None:
        """End a pass that is remembered, when all else that has a memory has taken part."""
        known = self._session.known
        self._entries.evaluate(known - self._ledger.present, x, sigma, self._unmixed_options)
        self._ledger.close(known)
        chunk = self._session.pass_.chunk
        self._remembered[chunk.scene] = chunk.index + 1

    def _input(self, pass_: Pass, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and levels of the pass by which a chunk is remembered."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if pass_.clean:
            x = self._source.restore(kept)
        else:
            noisy = self._noisy[pass_.chunk.film_index]
            x = upload(noisy, self._guider.model_patcher.load_device)
        return x, x.new_full((len(x),), pass_.sigma)

    def _recall(self, chunk: Chunk) -> None:
        """Have all remembered that came before a chunk in its scene, and the moment it reads."""
        self._remember_first(chunk.scene, chunk.index)
        self._recall_moments(chunk)

    def _remember_first(self, scene: int, chunks: int) -> None:
        """Have the first chunks of a scene remembered, which may take its time."""
        for index in range(self._remembered.get(scene, 0), chunks):
            tell(f"Remembering what is there: chunk {index + 1} of {chunks}")
            past = self.storyboard.plans[scene].chunk(index)
            self._recall_moments(past)
            self._remember_whole(self._schedule.remembered(past), self._source.kept(past))

    def _recall_moments(self, chunk: Chunk) -> None:
        """Have what a chunk reads of other scenes remembered, by passes as it was at first.

        What takes part later than others remembers it alone.
        """
        for frame in chunk.roles.pinned:
            if not any(self._session.moments(stream)[frame] for stream in self._session.met):
                own = self.storyboard.chunk(self.storyboard.chunk_of(frame))
                remembered = self._remembered
                self._remembered = remembered | {own.scene: 0}
                with self._session.aside(own.scene):
                    self._remember_first(own.scene, own.index + 1)
                self._remembered = remembered
            for stream in self._session.met:
                self._find(stream, frame)

    def _leave(self, scene: int) -> None:
        """Let go of what a scene remembers."""
        self._session.forget(scene)
        self._remembered.pop(scene, None)

    def _remember_again(self, chunk: Chunk, streams: set[Stream]) -> None:
        """Let streams whose words change with the next chunk remember the one before this anew."""
        names = self.storyboard.again(chunk)
        streams = {stream for stream in streams if stream.conditioning in names}
        if streams:
            plan = self.storyboard.plans[chunk.scene]
            before, following = plan.chunk(chunk.index - 1), plan.chunk(chunk.index + 1)
            for stream in streams:
                self._session.memories[stream, chunk.scene].rewind(before)
            self._remember_by(streams, before, said=following)

    def _remember_by(self, streams: set[Stream], chunk: Chunk, said: Chunk | None = None) -> None:
        """A pass of these streams alone; under the words of the chunk `said`, if one is given."""
        pass_ = self._schedule.remembered(chunk)
        inputs = self._input(pass_, self._source.kept(chunk))
        self._begin(pass_)
        if said is not None:
            self._speak(said, False)
        self._entries.evaluate(streams, *inputs, self._unmixed_options)
        self._ledger.close(streams)

    def _catch_up_within(self, stream: Stream) -> None:
        """Catch up in the middle of a pass, which goes on afterwards."""
        pass_ = self._session.pass_
        with self._ledger.aside():
            for frame in pass_.chunk.roles.pinned:
                self._find(stream, frame)
            if pass_.chunk.index and stream not in self._session.known:
                self._remember_alone(stream, pass_.chunk.scene, pass_.chunk.index)
        self._session.pass_ = pass_
        self._speak(pass_.chunk, pass_.clean)

    def _catch_up(self, missing: NoMemoryYet, chunk: Chunk) -> None:
        """Let a stream that takes part for the first time remember what came before this chunk."""
        if missing.moment is not None:
            self._find(missing.stream, missing.moment)
        else:
            self._remember_alone(missing.stream, chunk.scene, chunk.index)

    def _find(self, stream: Stream, frame: int) -> None:
        """Let a stream remember a moment of the film.

        Its scene is remembered once more from its beginning, apart from what is remembered of it.
        """
        if not self._session.moments(stream)[frame]:
            own = self.storyboard.chunk(self.storyboard.chunk_of(frame))
            with self._session.aside(own.scene):
                self._remember_alone(stream, own.scene, own.index + 1)

    def _remember_alone(self, stream: Stream, scene: int, chunks: int) -> None:
        """The first chunks of a scene, by one stream."""
        for index in range(chunks):
            chunk = self.storyboard.plans[scene].chunk(index)
            for frame in chunk.roles.pinned:
                self._find(stream, frame)
            self._remember_again(chunk, {stream})
            self._remember_by({stream}, chunk)

    def load_model(self, like: Tensor) -> bool:
        """Bring the model back as far as it fits if it had to go when another one was loaded.

        Leaves room for a chunk, and for what it remembers unless that is there already. For use
        between two chunks.

        Args:
            like: latents of the rollout, `[B, C, t, H, W]`.

        Returns:
            Whether it had to go.
        """
        if not self._residence.is_broken:
            return False
        model = self._guider.model_patcher
        samples, channels, _, *size = like.shape
        rows = samples * max(1, len(self._session.memories))
        chunk_bytes = model.model.memory_required(
            [rows, channels, self.storyboard.chunk_frames, *size]
        )
        comfy.model_management.load_models_gpu(
            [model, *self._guider.loaded_models],
            memory_required=max(chunk_bytes, self._options.reserved_bytes - self._session.bytes),
        )
        return True


def _check_finite(chunk: Chunk, kept: Tensor, storyboard: Storyboard) -> None:
    if not math.isfinite(torch.linalg.vector_norm(kept, math.inf)):  # one launch, one number
        raise RuntimeError(
            f"Chunk {chunk.film_index + 1} of {storyboard.chunk_count} came out of the model as "
            "NaN or infinite numbers, so the run stops and nothing of this chunk is kept. Use "
            "another attention (remove nodes that replace it, or start ComfyUI without "
            "--use-sage-attention), or compute in bf16 or fp32 instead of fp16, and queue again."
        )
