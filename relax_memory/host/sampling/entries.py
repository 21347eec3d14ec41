"""The entries of all conditionings that take part in a run, whoever evaluates them.

Every entry is evaluated through one function of the host, which can be wrapped. There the guider's
entries get their stream as id, so that memory stays theirs when the words are exchanged; and what
was evaluated can be evaluated once more in a clean pass, whatever the guidance of that moment.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import comfy.samplers
from comfy.model_base import BaseModel
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ..gates.areas import FRAMES
from ..model.text import Form, texts_of
from ..options import KEY
from .ledger import Stream
from .session import Session

MOST_OTHERS = 16


class Entries:
    """Knows the conditionings of one run, while it is `watching` what is evaluated."""

    def __init__(self, guider: comfy.samplers.CFGGuider, session: Session) -> None:
        self._guider = guider
        self._session = session

    @contextmanager
    def watching(
        self, transformer_options: dict, catch_up: Callable[[Stream], None]
    ) -> Iterator[None]:
        """Watch the evaluations that are made with these options.

        `catch_up` lets a stream that takes part for the first time remember what was before. Called
        before it is evaluated, so that no step runs twice: guidance may keep count of them.
        """
        kind = WrappersMP.CALC_COND_BATCH
        add_wrapper_with_key(kind, KEY, partial(self._watch, catch_up), transformer_options)
        self._texts = texts_of(self._guider.model_patcher.model.diffusion_model)
        try:
            yield
        finally:
            self._texts.forget()
            del transformer_options["wrappers"][kind][KEY]

    def _watch(
        self,
        catch_up: Callable[[Stream], None],
        executor: Callable,
        model: BaseModel,
        conds: list,
        x: Tensor,
        *args: object,
        **kwargs: object,
    ) -> list[Tensor]:
        for name, entries in self._guider.conds.items():
            for index, entry in enumerate(entries):
                entry["uuid"] = Stream(name, index)
        met = self._session.evaluated
        for position, entries in enumerate(conds):
            for entry in entries or ():
                met[self._session.name(entry.get("uuid"))] = (position, entry)
        if sum(stream.conditioning not in self._guider.conds for stream in met) > MOST_OTHERS:
            raise RuntimeError(
                "Another node makes a conditioning of its own anew in every step, and what a video "
                "remembers of it cannot be found again: remove that node."
            )
        pass_ = self._session.pass_
        if not pass_.clean:
            conds = [
                entries
                and [e for e in entries if FRAMES not in e or pass_.chunk.touches(*e[FRAMES])]
                for entries in conds
            ]
        if not pass_.remembered:
            given = (entry for entries in conds for entry in entries or ())
            for stream in {self._session.name(entry.get("uuid")) for entry in given}:
                if self._session.missing(stream):
                    catch_up(stream)
        return executor(model, self._spoken_by(conds, x, model), x, *args, **kwargs)

    def _spoken_by(self, conds: list, x: Tensor, model: BaseModel) -> list:
        """The same, whose texts the model reads once for all passes."""
        form = Form(x.device, model.get_dtype_inference())
        return [
            entries and [self._texts.spoken(entry, form) for entry in entries] for entries in conds
        ]

    def evaluate(
        self, streams: Iterable[Stream], x: Tensor, sigma: Tensor, model_options: dict
    ) -> None:
        """Run these entries alone over the latents `x`, for what is remembered of it.

        They take part whatever frames they hold for.

        Raises:
            RuntimeError: an entry that never came through the host's function.
        """
        conds: list[list[dict]] = []
        for stream in streams:
            if stream not in self._session.evaluated:
                raise RuntimeError(
                    f"The {stream} conditioning is evaluated past the host's calc_cond_batch, so "
                    "it cannot be remembered: remove the node that does that."
                )
            position, entry = self._session.evaluated[stream]
            entry = self._spoken(stream) or entry
            conds += [[] for _ in range(position + 1 - len(conds))]
            whole = {key: value for key, value in entry.items() if key != FRAMES}
            conds[position].append(whole | {"uuid": stream})
        if conds:
            comfy.samplers.calc_cond_batch(self._guider.inner_model, conds, x, sigma, model_options)

    def _spoken(self, stream: Stream) -> dict | None:
        """The entry of the guider, whose words may have changed since it was evaluated.

        None where that is the entry of another stream, in whose place it has been put.
        """
        entries = self._guider.conds.get(stream.conditioning)
        entry = entries[stream.entry] if entries else None
        taken = entry and isinstance(entry["uuid"], Stream) and entry["uuid"] != stream
        return None if taken else entry
