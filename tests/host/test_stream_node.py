"""The stream node makes the video of sampler and decoder, and loses nothing that was finished."""

import av
import comfy.model_management
import folder_paths
import numpy
import pytest
import tiny
import tiny_vae
import torch

VIDEO = {
    "width": 32,
    "height": 32,
    "length": 33,
    "seed": 7,
    "steps": 2,
    "cfg": 1.0,
    "frames_per_chunk": 3,
    "batch_size": 1,
    "autosave": True,
}


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    """An output folder of the host that the test may fill."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "output"


def sample(**settings):
    model, positive = tiny.remembering(), tiny.conditioning(1)
    return tiny.node("RelaxForcingSampler", model=model, positive=positive, **VIDEO | settings)


def stream(vae=None, fps=16.0, **settings):
    inputs = {"model": tiny.remembering(), "positive": tiny.conditioning(1)} | VIDEO | settings
    vae = vae or tiny_vae.vae()
    return tiny.node("RelaxForcingStream", vae=vae, fps=fps, filename_prefix="video/live", **inputs)


def pictures(path) -> numpy.ndarray:
    with av.open(str(path)) as container:
        return numpy.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def saved_chunks(output) -> int:
    return len(list(output.rglob("relax_forcing/*/*.safetensors")))


def interrupt_when(condition, monkeypatch) -> None:
    """Interrupt as the host does, at the first place after `condition` where it may."""
    ask = comfy.model_management.throw_exception_if_processing_interrupted

    def asking():
        if condition():
            comfy.model_management.interrupt_current_processing(True)
        ask()

    name = "throw_exception_if_processing_interrupted"
    monkeypatch.setattr(comfy.model_management, name, asking)


def test_a_stream_is_the_video_of_sampler_and_decoder(output):
    latents, trace = sample(autosave=False)
    videos, streamed, streamed_trace = stream(autosave=False)
    assert torch.equal(streamed["samples"], latents["samples"])
    assert [c.history for c in streamed_trace.chunks] == [c.history for c in trace.chunks]
    decoded = tiny.node(
        "RelaxForcingDecode",
        samples=latents,
        vae=tiny_vae.vae(),
        fps=16.0,
        filename_prefix="video/whole",
    )[0]
    live, whole = (video[0].get_components().images for video in (videos, decoded))
    assert live.shape == (33, 32, 32, 3)
    per_frame = (live - whole).abs().mean(dim=(1, 2, 3))  # encoded in other groups of pictures
    assert per_frame.max() < 0.03 < (live[1:] - whole[:-1]).abs().mean()
    assert not list(output.rglob("*.partial.mp4"))


def test_every_sample_has_its_file():
    videos, latents, _ = stream(batch_size=2, autosave=False, length=13)
    assert len(videos) == len(latents["samples"]) == 2
    first, second = (video.get_components().images for video in videos)
    assert first.shape == second.shape and not torch.equal(first, second)


def test_an_interrupt_leaves_a_video_of_what_was_finished_and_the_rest_follows(output, monkeypatch):
    undisturbed, whole, _ = stream(autosave=False)
    interrupted = pytest.raises(comfy.model_management.InterruptProcessingException)
    with monkeypatch.context() as patch, interrupted:
        interrupt_when(lambda: saved_chunks(output) > 1, patch)
        stream()
    (partial,) = output.rglob("*.partial.mp4")
    assert len(pictures(partial)) >= 4 * 3 * (saved_chunks(output) - 1) - 3 > 0
    videos, resumed, _ = stream()
    assert torch.equal(resumed["samples"], whole["samples"])
    same = [pictures(video[0].get_stream_source()) for video in (videos, undisturbed)]
    assert numpy.array_equal(*same)


def test_a_prefix_is_the_beginning_of_the_file():
    prefix = {"samples": torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(1))}
    videos, latents, _ = stream(prefix=prefix, autosave=False, length=25)
    assert torch.equal(latents["samples"][:, :, :2], prefix["samples"])
    assert videos[0].get_components().images.shape[0] == 25


def test_a_vae_that_cannot_stream_is_refused_before_sampling(output):
    with pytest.raises(ValueError, match="samples has 16 channels, but vae is"):
        stream(vae=tiny_vae.vae("taehv22"))
    assert not list(output.rglob("*.mp4"))
