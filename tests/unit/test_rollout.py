"""The loop, with predictions and noise that are plain numbers."""

from dataclasses import dataclass, field

import torch

from relax_memory.passes import Schedule
from relax_memory.plan import Plan
from relax_memory.policies import RelaxedMemory
from relax_memory.rollout import rollout

SIGMAS = torch.tensor([1.0, 0.75, 0.25, 0.0])


@dataclass
class Recorder:
    """A source, a denoiser and a memory that note every call in order."""

    calls: list = field(default_factory=list)
    remembered: list = field(default_factory=list)

    def noise(self, chunk, draw):
        self.calls.append(("noise", chunk.index, draw))
        return torch.full((1, 1, chunk.length_frames, 1, 1), 100.0 * chunk.index + draw)

    def kept(self, chunk):
        self.calls.append(("given", chunk.index))
        return torch.full((1, 1, chunk.length_frames, 1, 1), -1.0)

    def keep(self, x0):
        self.calls.append(("keep", float(x0.flatten()[0])))
        return x0 + 0.5

    def denoise(self, pass_, x, sigma):
        assert (pass_.sigma, pass_.clean) == (float(sigma), False)
        if pass_.remembered:
            self.calls.append(("remember", pass_.chunk.index, float(x.flatten()[0])))
        self.calls.append(("denoise", pass_.chunk.index, float(sigma), float(x.flatten()[0])))
        return x / 2

    def remember(self, pass_, kept):
        assert pass_.remembered
        self.remembered.append((pass_.chunk.index, pass_.step, pass_.sigma))
        self.calls.append(("remember", pass_.chunk.index, float(kept.flatten()[0])))

    def on_step(self, pass_, x, x0):
        self.calls.append(
            ("step", pass_.chunk.index, pass_.step, float(x.flatten()[0]), float(x0.flatten()[0]))
        )

    def run(self, plan, sigmas=SIGMAS, first=None, clean_pass=True, **given):
        return rollout(
            plan,
            schedule=Schedule(sigmas=sigmas, first=first, clean_pass=clean_pass),
            source=self,
            denoise=self.denoise,
            remember=self.remember,
            on_step=self.on_step,
            **given,
        )


def make_plan(total_frames, **changes):
    return Plan(RelaxedMemory(), total_frames=total_frames, chunk_frames=3, **changes)


def test_a_chunk_is_denoised_renoised_handed_out_and_then_remembered():
    recorder = Recorder()
    for chunk, kept in recorder.run(make_plan(6)):
        recorder.calls.append(("out", chunk.index, float(kept.flatten()[0])))
    # x0 = x / 2 and x' = (1 - sigma') x0 + sigma' noise; noise of chunk 1 is 100, 101, 102
    assert recorder.calls[:11] == [
        ("noise", 0, 0),
        ("denoise", 0, 1.0, 0.0),
        ("step", 0, 0, 0.0, 0.0),
        ("noise", 0, 1),
        ("denoise", 0, 0.75, 0.75),
        ("step", 0, 1, 0.75, 0.375),
        ("noise", 0, 2),
        ("denoise", 0, 0.25, 0.78125),
        ("step", 0, 2, 0.78125, 0.390625),
        ("keep", 0.390625),
        ("out", 0, 0.890625),
    ]
    assert recorder.calls[11:] == [
        ("remember", 0, 0.890625),
        ("noise", 1, 0),
        ("denoise", 1, 1.0, 100.0),
        ("step", 1, 0, 100.0, 50.0),
        ("noise", 1, 1),
        ("denoise", 1, 0.75, 88.25),
        ("step", 1, 1, 88.25, 44.125),
        ("noise", 1, 2),
        ("denoise", 1, 0.25, 58.59375),
        ("step", 1, 2, 58.59375, 29.296875),
        ("keep", 29.296875),
        ("out", 1, 29.796875),
        ("remember", 1, 29.796875),
    ]


def test_given_chunks_are_handed_out_and_remembered_but_not_denoised():
    recorder = Recorder()
    chunks = [chunk for chunk, _ in recorder.run(make_plan(8, prefix_frames=5))]
    assert [chunk.given for chunk in chunks] == [True, True, False]
    assert recorder.calls[:4] == [
        ("given", 0),
        ("remember", 0, -1.0),
        ("given", 1),
        ("remember", 1, -1.0),
    ]
    assert {call[1] for call in recorder.calls if call[0] in ("noise", "denoise", "step")} == {2}


def test_a_chunk_that_is_not_asked_for_is_not_made():
    recorder = Recorder()
    chunks = recorder.run(make_plan(9))
    assert recorder.calls == []
    next(chunks)
    assert {call[0] for call in recorder.calls} == {"noise", "denoise", "step", "keep"}
    chunks.close()
    assert all(call[0] != "remember" for call in recorder.calls)


def test_a_cut_last_chunk_is_generated_at_its_length():
    kept = [kept for _, kept in Recorder().run(make_plan(7, whole_chunks=False))]
    assert [latents.shape[2] for latents in kept] == [3, 3, 1]


def test_one_step_takes_no_second_noise():
    recorder = Recorder()
    list(recorder.run(make_plan(3), sigmas=torch.tensor([1.0, 0.0])))
    assert [call for call in recorder.calls if call[0] == "noise"] == [("noise", 0, 0)]


def test_the_first_chunk_may_have_noise_levels_of_its_own():
    recorder = Recorder()
    first = torch.tensor([1.0, 0.9, 0.5, 0.25, 0.0])
    list(recorder.run(make_plan(9), sigmas=torch.tensor([1.0, 0.5, 0.0]), first=first))
    levels = [(call[1], call[2]) for call in recorder.calls if call[0] == "denoise"]
    assert [chunk for chunk, _ in levels] == [0] * 4 + [1] * 2 + [2] * 2
    assert [level for chunk, level in levels if chunk != 0] == [1.0, 0.5] * 2


def test_after_a_prefix_no_chunk_is_the_first():
    recorder = Recorder()
    first = torch.tensor([1.0, 0.5, 0.0])
    list(recorder.run(make_plan(4, prefix_frames=1), SIGMAS, first))
    assert len([call for call in recorder.calls if call[0] == "denoise"]) == 3


def test_without_clean_passes_the_last_step_is_remembered():
    recorder = Recorder()
    for chunk, _ in recorder.run(make_plan(6), clean_pass=False):
        recorder.calls.append(("out", chunk.index))
    of_first = [call[:2] for call in recorder.calls if call[1] == 0 and call[0] != "noise"]
    steps = [("denoise", 0), ("step", 0)]
    assert of_first == [*steps, *steps, ("remember", 0), *steps, ("out", 0)]
    assert ("remember", 0, 0.78125) in recorder.calls  # what its last step was given
    assert recorder.remembered == []


def test_without_clean_passes_what_is_given_takes_one():
    recorder = Recorder()
    chunks = recorder.run(make_plan(12, prefix_frames=4), clean_pass=False)
    assert [chunk.given for chunk, _ in chunks] == [True, True, False, False, False]
    assert recorder.remembered == [(0, 3, 0.0), (1, 3, 0.0)]


def test_a_single_step_is_the_one_that_is_remembered():
    recorder = Recorder()
    first = torch.tensor([1.0, 0.5, 0.0])
    list(recorder.run(make_plan(6), torch.tensor([1.0, 0.0]), first, clean_pass=False))
    kinds = [call[:2] for call in recorder.calls if call[0] in ("remember", "denoise")]
    assert kinds == [
        ("denoise", 0),
        ("remember", 0),
        ("denoise", 0),
        ("remember", 1),
        ("denoise", 1),
    ]
