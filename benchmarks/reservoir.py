"""The memory of the reference implementation: every frame is kept until the reservoir evicts it."""

from relax_memory.plan import Plan


class ReservoirPlan(Plan):
    """Reads what `Plan` reads, but keeps every frame that is not evicted yet."""

    def _scan(self, until_chunk: int) -> None:
        first_chunk = self._scanned_chunks
        super()._scan(until_chunk)
        for index in range(first_chunk, self._scanned_chunks):
            self._last_reader.update(dict.fromkeys(self._cached(index), index))

    def _cached(self, index: int) -> list[int]:
        """The frames in the reservoir while chunk `index` is made, sinks and newest frames."""
        chunk = self.chunk(index)
        sinks, past = self.policy.sink_frames, chunk.first_frame
        newest = self.policy.reservoir_frames - chunk.length_frames - sinks
        return [*range(min(sinks, past)), *range(max(sinks, past - newest), past)]
