"""The timeline in the real host: an ordinary IMAGE, shown on the node and saved by the host."""

import folder_paths
import nodes as host_nodes
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

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
    assert any(chunk.scores[0] for chunk in trace.chunks)
    (image,) = tiny.node("RelaxForcingTimeline", trace=trace)
    assert image.shape[2:] == (2000, 3)


def test_an_empty_trace_is_refused(folders):
    with pytest.raises(ValueError, match="no chunks"):
        tiny.node("RelaxForcingTimeline", trace=Trace(chunks=(), rows=()))
