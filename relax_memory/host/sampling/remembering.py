"""What a run remembers when, by passes of the guider that predict nothing.

A chunk is remembered when it is finished. Before one begins, all that it reads is: chunks that were
given or saved, a scene that comes back, a moment of another scene. What takes part later than
others catches up on all of that alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import comfy.model_management
import comfy.samplers
from torch import Tensor

from ...memory.transfer import upload
from ...passes import Chunk, Pass, Schedule
from ..notice import tell
from ..room.copying import ways_to
from .entries import Entries
from .latents import HostSource
from .ledger import Stream
from .prompts import Speak
from .session import NoMemoryYet, Session

MIXERS = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")


class Remembering:
    """Has the chunks of a session remembered.

    Args:
        extra_args: for calls of the guider.
        speak: makes the guider say the words of a chunk.
        noisy: by chunk, what the last steps were given where these are remembered.
    """

    def __init__(
        self,
        guider: comfy.samplers.CFGGuider,
        extra_args: dict,
        session: Session,
        *,
        speak: Speak,
        schedule: Schedule,
        source: HostSource,
        noisy: Mapping[int, Tensor],
    ) -> None:
        self._guider = guider
        self._session = session
        self._storyboard = session.storyboard
        self._ledger = session.ledger
        self._entries = Entries(guider, session)
        self._speak = speak
        self._schedule = schedule
        self._source = source
        self._noisy = noisy
        # What mixes predictions may evaluate the model once more; where nothing is predicted it has
        # nothing to mix.
        options = extra_args["model_options"]
        self._unmixed_options = {k: v for k, v in options.items() if k not in MIXERS}
        self._unmixed_args = extra_args | {"model_options": self._unmixed_options}
        self.mixes = len(self._unmixed_options) < len(options)

    @contextmanager
    def watching(self, transformer_options: dict) -> Iterator[None]:
        """Let what takes part for the first time in a pass with these options catch up."""
        with self._entries.watching(transformer_options, self._catch_up_within):
            yield

    def begin(self, pass_: Pass) -> None:
        """Say what the next calls of the guider are for."""
        self._session.begin(pass_)
        self._say(pass_.chunk, pass_.clean)

    def _say(self, chunk: Chunk, clean: bool) -> None:
        """Have the guider say the words of a chunk, where they change at all."""
        if self._storyboard.shots:
            self._speak(chunk, clean)

    def complete(self, x: Tensor, sigma: Tensor) -> None:
        """End a pass that is remembered, when all else that has a memory has taken part."""
        known = self._session.known
        self._entries.evaluate(known - self._ledger.present, x, sigma, self._unmixed_options)
        self._ledger.close(known)
        chunk = self._session.pass_.chunk
        self._session.remembered[chunk.scene] = chunk.index + 1

    def remember(self, pass_: Pass, kept: Tensor) -> None:
        """Remember a chunk by a pass that predicts nothing, if it is read."""
        if self._storyboard.is_read(pass_.chunk):
            self._remember_whole(pass_, kept)

    def complete_to(self, chunk: Chunk) -> None:
        """Remember a chunk that an earlier run made, and those before it, if it is read."""
        if self._storyboard.is_read(chunk):
            self._remember_first(chunk.scene, chunk.index + 1)

    def recall(self, chunk: Chunk) -> None:
        """Have all remembered that came before a chunk in its scene, and the moment it reads."""
        self._session.unpark(chunk.scene)
        self._remember_first(chunk.scene, chunk.index)
        self._recall_moments(chunk.roles.pinned)

    def leave(self, chunk: Chunk) -> None:
        """Let go of what a scene remembers after this chunk of it, or let it wait."""
        if chunk.scene in self._session.waiting and self._storyboard.goes_on(chunk):
            self._session.park(chunk.scene)
        else:
            self._session.forget(chunk.scene)

    def catch_up(self, missing: NoMemoryYet, chunk: Chunk) -> None:
        """Let a stream that takes part for the first time remember what came before this chunk."""
        if missing.moment is not None:
            self._find(missing.stream, missing.moment)
        else:
            self._remember_alone(missing.stream, chunk.scene, chunk.index)

    def _catch_up_within(self, stream: Stream) -> None:
        """Catch up in the middle of a pass, which goes on afterwards."""
        pass_ = self._session.pass_
        with self._ledger.aside():
            for frame in pass_.chunk.roles.pinned:
                self._find(stream, frame)
            if pass_.chunk.index and stream not in self._session.known:
                self._remember_alone(stream, pass_.chunk.scene, pass_.chunk.index)
        self._session.pass_ = pass_
        self._say(pass_.chunk, pass_.clean)

    def _remember_whole(self, pass_: Pass, kept: Tensor) -> None:
        """A pass of what the guider evaluates, and of all else that has a memory.

        Before it that of the chunk before once more, where words change with the next chunk.
        """
        self._remember_again(pass_.chunk, self._session.known_in(pass_.chunk.scene))
        x, sigma = self._input(pass_, kept)
        self.begin(pass_)
        self._guider(x, sigma, **self._unmixed_args)
        self.complete(x, sigma)

    def _input(self, pass_: Pass, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and levels of the pass by which a chunk is remembered."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if pass_.clean:
            x = self._source.restore(kept)
        else:
            noisy = self._noisy[pass_.chunk.film_index]
            device = self._guider.model_patcher.load_device
            x = upload(noisy, device, ways_to(device))
        return x, x.new_full((len(x),), pass_.sigma)

    def _remember_first(self, scene: int, chunks: int) -> None:
        """Have the first chunks of a scene remembered, which may take its time."""
        for index in range(self._session.remembered.get(scene, 0), chunks):
            tell(f"Remembering what is there: chunk {index + 1} of {chunks}")
            past = self._storyboard.plans[scene].chunk(index)
            self._recall_moments(past.roles.pinned)
            self._remember_whole(self._schedule.remembered(past), self._source.kept(past))

    def _recall_moments(self, frames: Iterable[int]) -> None:
        """Have these moments remembered as they were at first, by passes where they are not.

        What takes part later than others remembers it alone.
        """
        for frame in frames:
            if not any(self._session.moments(stream)[frame] for stream in self._session.met):
                own = self._storyboard.chunk(self._storyboard.chunk_of(frame))
                with self._session.aside(own.scene):
                    self._remember_first(own.scene, own.index + 1)
            for stream in self._session.met:
                self._find(stream, frame)

    def _remember_again(self, chunk: Chunk, streams: set[Stream]) -> None:
        """Let streams whose words change with the next chunk remember the one before this anew."""
        names = self._storyboard.again(chunk)
        streams = {stream for stream in streams if stream.conditioning in names}
        if streams:
            plan = self._storyboard.plans[chunk.scene]
            before, following = plan.chunk(chunk.index - 1), plan.chunk(chunk.index + 1)
            moments = self._storyboard.moments.intersection(before.film_frames)
            self._recall_moments(moments)  # which keep the words that they had first
            for stream in streams:
                self._session.memories[stream, chunk.scene].rewind(before)
            self._remember_by(streams, before, said=following)

    def _remember_by(self, streams: set[Stream], chunk: Chunk, said: Chunk | None = None) -> None:
        """A pass of these streams alone; under the words of the chunk `said`, if one is given."""
        pass_ = self._schedule.remembered(chunk)
        inputs = self._input(pass_, self._source.kept(chunk))
        self.begin(pass_)
        if said is not None:
            self._say(said, False)
        self._entries.evaluate(streams, *inputs, self._unmixed_options)
        self._ledger.close(streams)

    def _find(self, stream: Stream, frame: int) -> None:
        """Let a stream remember a moment of the film.

        Its scene is remembered once more from its beginning, apart from what is remembered of it.
        """
        if not self._session.moments(stream)[frame]:
            own = self._storyboard.chunk(self._storyboard.chunk_of(frame))
            with self._session.aside(own.scene):
                self._remember_alone(stream, own.scene, own.index + 1)

    def _remember_alone(self, stream: Stream, scene: int, chunks: int) -> None:
        """The first chunks of a scene, by one stream."""
        for index in range(chunks):
            chunk = self._storyboard.plans[scene].chunk(index)
            for frame in chunk.roles.pinned:
                self._find(stream, frame)
            self._remember_again(chunk, {stream})
            self._remember_by({stream}, chunk)
