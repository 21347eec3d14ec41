"""Decoding piece by piece in the real host: its own pictures, bounded memory, a video file."""

import asyncio
import itertools
import json
import weakref
from contextlib import contextmanager
from pathlib import Path

import av
import comfy.sd
import execution
import folder_paths
import pytest
import seen
import tiny
import tiny_vae
import torch
from comfy import model_management
from comfy.cli_args import args
from comfy.utils import ProgressBar
from comfy_api.latest import InputImpl
from comfy_api.latest._io import Hidden, HiddenHolder
from comfy_extras.nodes_video import GetVideoComponents, SaveVideo

from relax_memory.film.background import to_bytes
from relax_memory.film.mp4 import ONE_THREAD, VideoWriter
from relax_memory.host.film.decode import VideoDecoder, decode_video, pieces

KINDS = ["wan", "taehv", "taehv22"]


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    """An output folder of the host that the test may fill."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "output"


def host_decode(vae, latents):
    with torch.inference_mode():
        return vae.decode(latents)


def by_pieces(vae, latents, parts):
    decoder = VideoDecoder(vae, latents)
    return torch.cat([images for part in parts for images in decoder.push(part)], 1)


def decode(latents, vae=None, fps=16.0, prefix="video/test"):
    """Videos of the node."""
    inputs = {"samples": {"samples": latents}, "vae": vae or tiny_vae.vae()}
    return tiny.node("RelaxForcingDecode", **inputs, fps=fps, filename_prefix=prefix)[0]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 10, 21])
@pytest.mark.parametrize("kind", KINDS)
def test_the_pictures_are_the_hosts_bit_for_bit(kind, frames):
    vae = tiny_vae.vae(kind)
    latents = tiny_vae.latents(frames, kind=kind)
    assert vae.vae_dtype == torch.float32
    assert torch.equal(by_pieces(vae, latents, pieces(latents)), host_decode(vae, latents))


def test_the_pictures_are_the_hosts_where_grouping_changes_bits():
    """With several threads a convolution of one frame may add up otherwise than one of two."""
    vae, latents = tiny_vae.vae(), tiny_vae.latents(6)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(by_pieces(vae, latents, pieces(latents)), host_decode(vae, latents))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_any_size_give_the_same_pictures(kind, size):
    """To rounding, because other groups of frames may be summed in another order."""
    vae = tiny_vae.vae(kind)
    latents = tiny_vae.latents(9, kind=kind)
    subject = by_pieces(vae, latents, latents.split(size, 2))
    assert (subject - host_decode(vae, latents)).abs().max() < 1e-5


def test_samples_of_a_batch_may_be_decoded_together():
    vae, latents = tiny_vae.vae(), tiny_vae.latents(6, batch=2)
    together = by_pieces(vae, latents, pieces(latents))
    for sample, images in zip(latents.split(1), together.split(1), strict=True):
        assert (images - host_decode(vae, sample)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_host_reserves_for_a_piece_not_for_the_video(kind, monkeypatch):
    reserved = []
    monkeypatch.setattr(
        model_management,
        "load_models_gpu",
        lambda *_, memory_required: reserved.append(memory_required),
    )
    for frames in (9, 9000):
        shape = (1, tiny_vae.CHANNELS[kind], frames, 60, 104)
        VideoDecoder(tiny_vae.vae(kind), torch.zeros(1).expand(shape)).load()
    assert reserved[0] == reserved[1] < 12e9


@contextmanager
def exhausted(layer, calls):
    """Let a layer run out of memory in the given calls, counted from 1."""
    count = itertools.count(1)

    def fail(*_):
        if next(count) in calls:
            raise torch.OutOfMemoryError("no memory left")

    handle = layer.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()
    assert next(count) > max(calls) or len(calls) > 1


@pytest.mark.parametrize("frames", [9, 10])
@pytest.mark.parametrize("failing", [1, 2, 5])
@pytest.mark.parametrize("kind", ["wan", "taehv"])
def test_running_out_of_memory_changes_nothing(kind, failing, frames):
    vae, latents = tiny_vae.vae(kind), tiny_vae.latents(frames, kind=kind)
    decoder = vae.first_stage_model.decoder
    expected = host_decode(vae, latents)
    with exhausted(decoder.head[0] if kind == "wan" else decoder[-1], {failing}):
        assert torch.equal(by_pieces(vae, latents, pieces(latents)), expected)


def test_running_out_of_memory_again_is_said_and_what_was_decoded_stays(output):
    vae = tiny_vae.vae()
    always = exhausted(vae.first_stage_model.decoder.conv1, range(7, 100))
    with always, pytest.raises(RuntimeError, match="lighttaew2_1"):
        decode(tiny_vae.latents(21), vae)
    (partial,) = output.glob("video/*")
    assert partial.name == "test_00001_.partial.mp4"
    assert len(list(frames_of(partial))) == 33


def frames_of(path):
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield torch.from_numpy(frame.to_ndarray(format="rgb24", **ONE_THREAD))


@pytest.mark.parametrize("kind", ["wan", "taehv"])
@pytest.mark.parametrize("fps", [16.0, 23.976])
def test_the_video_shows_the_hosts_pictures(kind, fps, tmp_path):
    vae, latents = tiny_vae.vae(kind), tiny_vae.latents(11)
    (video,) = decode(latents, vae, fps)
    images, audio, rate, depth = GetVideoComponents.execute(video).result
    expected = to_bytes(host_decode(vae, latents)[0])
    assert torch.equal(images, encoded(expected, fps, tmp_path / "a.mp4"))
    assert images.shape == (41, 32, 32, 3)
    assert (audio, rate, depth) == (None, fps, 8)
    assert video.get_duration() == pytest.approx(41 / fps, abs=1e-3)


def encoded(images, fps, path):
    """The pictures as they come back from a file."""
    _, height, width, _ = images.shape
    writer = VideoWriter(path, fps=fps, width=width, height=height)
    for part in images.split([33, len(images) - 33]):
        writer.append(part)
    return InputImpl.VideoFromFile(str(writer.finish())).get_components().images


def test_the_host_saves_the_video_and_trims_it(output, monkeypatch):
    (video,) = decode(tiny_vae.latents(5))
    monkeypatch.setattr(SaveVideo, "hidden", HiddenHolder.from_dict({}))
    SaveVideo.execute(video, "again", "auto", {"codec": "auto"})
    (saved,) = output.glob("again*")
    assert len(list(frames_of(saved))) == 17
    assert video.as_trimmed(0.5, 0.25).get_components().images.shape[0] == 4


def test_each_sample_of_a_batch_is_a_file_like_the_one_it_gives_alone(output):
    latents = tiny_vae.latents(5, batch=2)
    both = decode(latents)
    alone = [decode(sample)[0] for sample in latents.split(1)]
    assert sorted(path.name for path in output.glob("video/*")) == [
        f"test_{number:05}_.mp4" for number in (1, 2, 3, 4)
    ]
    for one, other in zip(both, alone, strict=True):
        assert torch.equal(one.get_components().images, other.get_components().images)


def test_the_node_shows_the_files_and_counts_latent_frames(monkeypatch, output):
    seen = []
    monkeypatch.setattr(
        "comfy.utils.PROGRESS_BAR_HOOK", lambda value, total, *_, **__: seen.append((value, total))
    )
    monkeypatch.setattr("comfy.utils.PROGRESS_THROTTLE_MIN_INTERVAL", 0)
    inputs = {"samples": {"samples": tiny_vae.latents(6, batch=2)}, "vae": tiny_vae.vae()}
    node = tiny.pack()["RelaxForcingDecode"]
    shown = node.EXECUTE_NORMALIZED(**inputs, fps=16.0, filename_prefix="deep/er/test")
    assert shown.ui.as_dict() == {
        "images": [
            {"filename": f"test_0000{n}_.mp4", "subfolder": "deep/er", "type": "output"}
            for n in (1, 2)
        ],
        "animated": (True,),
    }
    assert seen == [(done, 12) for done in (1, 3, 5, 6, 7, 9, 11, 12)]


@pytest.mark.parametrize("disabled", [False, True])
def test_the_workflow_is_in_the_file_unless_the_host_writes_none(disabled, monkeypatch):
    prompt, workflow = {"7": {"class_type": "Ä"}}, {"nodes": [1]}
    hidden = {Hidden.prompt: prompt, Hidden.extra_pnginfo: {"workflow": workflow}}
    monkeypatch.setattr(args, "disable_metadata", disabled)
    monkeypatch.setattr(tiny.pack()["RelaxForcingDecode"], "hidden", HiddenHolder.from_dict(hidden))
    metadata = decode(tiny_vae.latents(2))[0].get_components().metadata
    if disabled:
        assert not {"prompt", "workflow"} & metadata.keys()
    else:
        assert json.loads(metadata["prompt"]) == prompt
        assert json.loads(metadata["workflow"]) == workflow


def test_the_executor_hands_on_each_video(output):
    """What follows the node runs once for one video and twice for two."""
    node = tiny.pack()["RelaxForcingDecode"]
    for batch in (1, 2):
        inputs = {
            "samples": [{"samples": tiny_vae.latents(2, batch=batch)}],
            "vae": [tiny_vae.vae()],
            "fps": [16.0],
            "filename_prefix": ["test"],
        }
        outputs, shown, *_ = asyncio.run(execution.get_output_data("0", "1", node, inputs))
        assert len(outputs[0]) == len(shown["images"]) == batch
        assert all(isinstance(video, InputImpl.VideoFromFile) for video in outputs[0])


def test_an_interrupt_passes_and_leaves_a_video_of_what_was_decoded(output):
    vae, latents, calls = tiny_vae.vae(), tiny_vae.latents(21), itertools.count(1)
    whole = list(frames_of(decode(latents)[0].get_stream_source()))

    def interrupt(*_):
        if next(calls) == 7:
            model_management.interrupt_current_processing()

    handle = vae.first_stage_model.decoder.conv1.register_forward_hook(interrupt)
    try:
        with pytest.raises(model_management.InterruptProcessingException):
            decode(latents)
    finally:
        handle.remove()
        model_management.interrupt_current_processing(False)
    partial = output / "video" / "test_00002_.partial.mp4"
    assert torch.equal(torch.stack(list(frames_of(partial))), torch.stack(whole[:33]))
    assert [video.get_frame_count() for video in decode(tiny_vae.latents(1))] == [1]
    assert sorted(path.name for path in partial.parent.iterdir()) == [
        "test_00001_.mp4",
        partial.name,
        "test_00003_.mp4",
    ]


def test_the_node_tells_the_time_left_and_shows_the_growing_video(output):
    with seen.node() as browser:
        decode(tiny_vae.latents(50))
    first, second, *_, before_last, last = browser.texts
    assert first == "0 of 12 s decoded"
    assert second.startswith("1 of 12 s decoded, ") and second.endswith(" s left")
    assert before_last == "12 of 12 s decoded, 0 s left"
    assert last.startswith("12 s of video in ")
    assert {name for names in browser.videos for name in names} == {"video/test_00001_.partial.mp4"}


def test_a_stop_says_where_the_pictures_lie_and_shows_them(output):
    vae, latents, calls = tiny_vae.vae(), tiny_vae.latents(21, batch=2), itertools.count(1)

    def interrupt(*_):
        if next(calls) == 18:
            model_management.interrupt_current_processing()

    handle = vae.first_stage_model.decoder.conv1.register_forward_hook(interrupt)
    try:
        with seen.node() as browser, pytest.raises(model_management.InterruptProcessingException):
            decode(latents, vae)
    finally:
        handle.remove()
        model_management.interrupt_current_processing(False)
    left = ["video/test_00001_.mp4", "video/test_00002_.partial.mp4"]
    assert browser.texts[-1] == f"The video so far: {', '.join(left)}"
    assert browser.videos[-1] == left
    assert all((output / name).is_file() for name in left)


def test_memory_for_pictures_does_not_grow_with_the_video():
    """Of all pieces made so far only the newest is alive."""
    alive = weakref.WeakSet()
    most = 0
    for piece in decode_video(tiny_vae.vae("taehv"), tiny_vae.latents(50, size=2), ProgressBar(50)):
        alive.add(piece)
        most = max(most, len(alive))
        assert len(piece) <= 33
    assert most <= 2


@pytest.mark.parametrize(
    "prefix", ["../out", "a/../../out", "/etc/out", "video/../../../x/y", "a\0b", "a\nb/c"]
)
def test_a_name_outside_the_output_folder_is_refused_before_any_decoding(prefix, output):
    before = set(output.parent.rglob("*"))
    with pytest.raises(ValueError, match="filename_prefix"):
        decode(tiny_vae.latents(2), prefix=prefix)
    assert {path for path in output.parent.rglob("*") if path.is_file()} == before


def test_a_link_out_of_the_output_folder_is_refused(output, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    output.mkdir()
    (output / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="output folder"):
        decode(tiny_vae.latents(2), prefix="link/x")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("prefix", ["x" * 300, "x" * 300 + "/y", "file/y", "file/y/z"])
def test_a_name_that_the_disk_refuses_is_said(output, prefix):
    output.mkdir()
    (output / "file").touch()
    with pytest.raises(ValueError, match=f'is "{prefix}", but .+ cannot be created'):
        decode(tiny_vae.latents(2), prefix=prefix)


@pytest.mark.parametrize("prefix", ["", ".", "video/", "a.b", "%width%x%height%", "Über video/ä"])
def test_odd_names_stay_inside(prefix, output):
    (video,) = decode(tiny_vae.latents(1), prefix=prefix)
    assert output in Path(video.get_stream_source()).parents


def test_other_vaes_are_refused_by_name():
    pixels = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="an image VAE.*PixelspaceConversionVAE.*Wan 2.1 VAE"):
        decode(tiny_vae.latents(2), pixels)


def test_other_latents_are_refused(output):
    wan22 = tiny_vae.latents(2, kind="taehv22")
    with pytest.raises(ValueError, match=r"48 channels.*16 channels"):
        decode(wan22)
    with pytest.raises(ValueError, match=r"\(1, 16, 4, 4\)"):
        decode(tiny_vae.latents(2)[:, :, 0])
    with pytest.raises(ValueError, match="samples"):
        decode(tiny_vae.latents(2)[:, :, :0])
    assert not output.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_frames_that_would_be_black_are_refused_before_any_decoding(output, value):
    latents = tiny_vae.latents(6)
    latents[0, 3, 2, 1, 1] = latents[0, 3, 4, 1, 1] = value
    with pytest.raises(
        ValueError, match="NaN or infinite values in 2 of 6 latent frames, first in"
    ):
        decode(latents)
    assert not output.exists()
