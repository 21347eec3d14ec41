"""The timeline in the real host: an ordinary IMAGE, shown on the node and saved by the host."""

import folder_paths
import nodes as host_nodes
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from relax_memory.direction.grammar import parse
from relax_memory.host.directed import Directed, with_direction
from relax_memory.picture.timeline import draw_timeline
from relax_memory.trace import ChunkTrace, Trace

ROLES = {"sink": (), "candidates": (), "tail": (), "history": ((),), "scores": ()}
CHUNK = ChunkTrace(index=0, frames=(0, 1, 2), given=False, seconds=1.0, **ROLES)
TRACE = Trace(chunks=(CHUNK,), rows=("positive 0",))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Output and temporary folders of the host, in a place that the test may fill."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return tmp_path


def test_the_picture_is_an_image_and_is_shown_on_the_node(folders):
    output = tiny.pack()["RelaxForcingTimeline"].EXECUTE_NORMALIZED(trace=TRACE)
    (image,) = output.result
    assert image.dtype == torch.float32
    assert image.device.type == "cpu"
    assert torch.equal(image, torch.from_numpy(draw_timeline(TRACE)).float()[None] / 255)
    assert len(output.ui.as_dict()["images"]) == 1
    assert len(list(folders.glob("temp/*.png"))) == 1


def test_the_host_saves_the_picture(folders):
    (image,) = tiny.node("RelaxForcingTimeline", trace=TRACE)
    host_nodes.SaveImage().save_images(image, "timeline")
    (path,) = folders.glob("output/*.png")
    with Image.open(path) as saved:
        assert np.abs(np.asarray(saved).astype(int) - draw_timeline(TRACE)).max() <= 1


def test_a_real_rollout_has_a_panel_for_each_sample_of_each_prompt(folders):
    _, trace = tiny.node(
        "RelaxForcingSampler",
        model=tiny.model(),
        positive=tiny.conditioning(1),
        negative=tiny.conditioning(2),
        width=32,
        height=32,
        length=4 * 17 + 1,
        seed=3,
        steps=1,
        cfg=3.0,
        frames_per_chunk=3,
        batch_size=2,
    )
    assert len(trace.chunks) == 6
    assert len(trace.rows) == 4
    assert {chunk.words for chunk in trace.chunks} == {""}
    assert any(chunk.scores[0] for chunk in trace.chunks)
    (image,) = tiny.node("RelaxForcingTimeline", trace=trace)
    assert image.shape[2:] == (2000, 3)


def film(text, **settings):
    """The trace of 27 latent frames under a script."""
    script = parse(text)
    prompts = {cue.text: tiny.conditioning(seed) for seed, cue in enumerate(script.cues)}
    return tiny.node(
        "RelaxForcingSampler",
        model=tiny.remembering(),
        positive=with_direction(
            Directed(script=script, prompts=tuple(prompts[cue.text] for cue in script.cues))
        ),
        width=32,
        height=32,
        length=4 * 26 + 1,
        seed=3,
        steps=1,
        cfg=1.0,
        frames_per_chunk=3,
        batch_size=1,
        **settings,
    )[1]


def test_the_trace_of_a_film_has_scenes_moments_and_the_first_words_of_shots(folders):
    text = """GLOBAL: a film of a very long and very grey winter day,
    [0s] a cat
    [1.5s #] a dog
    [3s blend 1s @0s] a fox
    [4.5s #] a cat"""
    told = ["a cat"] * 2 + ["a dog"] * 2 + ["a fox"] * 2 + ["a cat"] * 3
    for _ in range(2):  # as it is sampled, and as it is saved
        trace = film(text, autosave=True)
        assert [chunk.words for chunk in trace.chunks] == told
        assert [chunk.scene for chunk in trace.chunks] == [0] * 2 + [1] * 4 + [2] * 3
        assert [chunk.pinned for chunk in trace.chunks] == [()] * 4 + [(0,)] * 2 + [()] * 3
    (image,) = tiny.node("RelaxForcingTimeline", trace=trace)
    assert image.shape[2:] == (2000, 3)


def test_an_empty_trace_is_refused(folders):
    with pytest.raises(ValueError, match="no chunks"):
        tiny.node("RelaxForcingTimeline", trace=Trace(chunks=(), rows=()))
