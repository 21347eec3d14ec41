"""A length that no video has, and the end of a source that its latents do not have, are said."""

from types import SimpleNamespace

import pytest
import tiny
import torch
from comfy_execution.graph import DynamicPrompt
from comfy_execution.progress import reset_progress_state
from comfy_execution.utils import CurrentNodeContext
from server import PromptServer


def told_by(monkeypatch, *, length, prefix_frames=0, made_by="VAEEncode"):
    """Frames of a sampled video, and all that its node showed as text."""
    texts = []
    server = SimpleNamespace(
        client_id="browser", send_progress_text=lambda text, node_id, sid: texts.append(text)
    )
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    graph = {
        "1": {"class_type": made_by, "inputs": {}},
        "2": {"class_type": "RelaxForcingSampler", "inputs": {"prefix": ["1", 0]}},
    }
    reset_progress_state("prompt", DynamicPrompt(graph))
    inputs = {"model": tiny.remembering(), "positive": tiny.conditioning(1), "cfg": 1.0}
    inputs |= {"width": 32, "height": 32, "seed": 7, "steps": 1, "frames_per_chunk": 3}
    inputs |= {"length": length, "batch_size": 1, "autosave": False}
    if prefix_frames:
        inputs["prefix"] = {"samples": torch.randn(1, 16, prefix_frames, 4, 4)}
    with CurrentNodeContext("prompt", "2"):
        latent, _ = tiny.node("RelaxForcingSampler", **inputs)
    return 4 * latent["samples"].shape[2] - 3, texts


@pytest.mark.parametrize(("length", "frames"), [(96, 93), (94, 93), (4, 1), (22, 21)])
def test_a_length_that_is_shortened_is_said_to_the_end(monkeypatch, length, frames):
    made, texts = told_by(monkeypatch, length=length)
    assert made == frames
    said = f"length is {length}, but latents hold 4n + 1 video frames: the video has {frames}"
    assert said in texts[0] and said in texts[-1]


def test_a_length_that_is_kept_needs_no_word(monkeypatch):
    made, texts = told_by(monkeypatch, length=33)
    assert made == 33
    assert not any("latents hold" in text for text in texts)


@pytest.mark.parametrize("made_by", ["VAEEncode", "VAEEncodeTiled"])
def test_what_an_encoded_video_may_have_lost_is_said(monkeypatch, made_by):
    _, texts = told_by(monkeypatch, length=33, prefix_frames=3, made_by=made_by)
    said = "continues after frame 9 of what was encoded for prefix"
    assert said in texts[0] and said in texts[-1]
    assert "frames 10 to 12 are left out" in texts[-1]


@pytest.mark.parametrize(("made_by", "frames"), [("RelaxForcingResume", 3), ("VAEEncode", 1)])
def test_latents_and_pictures_lose_nothing(monkeypatch, made_by, frames):
    _, texts = told_by(monkeypatch, length=33, prefix_frames=frames, made_by=made_by)
    assert not any("left out" in text for text in texts)
