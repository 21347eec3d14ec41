"""Decoding part by part in the real host: its own pictures, bounded memory, a video file."""

import asyncio
import functools
import itertools
import json
import random
import weakref
from contextlib import contextmanager
from pathlib import Path

import av
import comfy.sd
import execution
import folder_paths
import nodes as host_nodes
import pytest
import seen
import tiny
import tiny_vae
import torch
from comfy import model_management
from comfy.cli_args import args
from comfy.utils import ProgressBar
from comfy_api.latest import InputImpl, io
from comfy_api.latest._io import Hidden, HiddenHolder
from comfy_extras.nodes_video import GetVideoComponents, SaveVideo
from comfy_extras.nodes_wan import TrimVideoLatent

from demo.bundle import load_vae
from lab.world import draw, random_scene
from relax_memory.film.background import to_bytes
from relax_memory.film.mp4 import ONE_THREAD, VideoWriter
from relax_memory.host.film.cuts import KEY, latent_of, pieces_of
from relax_memory.host.film.decode import VideoDecoder, decode_video, parts
from relax_memory.host.film.live import LiveVideo
from relax_memory.host.film.output import open_video
from relax_memory.host.request import Request
from relax_memory.scenes import WHOLE, Piece, ends

KINDS = ["wan", "taehv", "taehv22"]


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    """An output folder of the host that the test may fill."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "output"


def host_decode(vae, latents):
    with torch.inference_mode():
        return vae.decode(latents)


def by_parts(vae, latents, given, pieces=WHOLE):
    decoder = VideoDecoder(vae, latents, pieces)
    return torch.cat([images for part in given for images in decoder.push(part)], 1)


def decode(latents, vae=None, fps=16.0, prefix="video/test", pieces=WHOLE):
    """Videos of the node."""
    inputs = {"samples": latent_of(latents, pieces), "vae": vae or tiny_vae.vae()}
    return tiny.node("RelaxForcingDecode", **inputs, fps=fps, filename_prefix=prefix)[0]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 10, 21])
@pytest.mark.parametrize("kind", KINDS)
def test_the_pictures_are_the_hosts_bit_for_bit(kind, frames):
    vae = tiny_vae.vae(kind)
    latents = tiny_vae.latents(frames, kind=kind)
    assert vae.vae_dtype == torch.float32
    assert torch.equal(by_parts(vae, latents, parts(latents)), host_decode(vae, latents))


def test_the_pictures_are_the_hosts_where_grouping_changes_bits():
    """With several threads a convolution of one frame may add up otherwise than one of two."""
    vae, latents = tiny_vae.vae(), tiny_vae.latents(6)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(by_parts(vae, latents, parts(latents)), host_decode(vae, latents))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_any_size_give_the_same_pictures(kind, size):
    """To rounding, because other groups of frames may be summed in another order."""
    vae = tiny_vae.vae(kind)
    latents = tiny_vae.latents(9, kind=kind)
    subject = by_parts(vae, latents, latents.split(size, 2))
    assert (subject - host_decode(vae, latents)).abs().max() < 1e-5


def test_samples_of_a_batch_may_be_decoded_together():
    vae, latents = tiny_vae.vae(), tiny_vae.latents(6, batch=2)
    together = by_parts(vae, latents, parts(latents))
    for sample, images in zip(latents.split(1), together.split(1), strict=True):
        assert (images - host_decode(vae, sample)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_host_reserves_for_a_part_not_for_the_video(kind, monkeypatch):
    reserved = []
    monkeypatch.setattr(
        model_management,
        "load_models_gpu",
        lambda *_, memory_required: reserved.append(memory_required),
    )
    for frames in (9, 900):
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
        assert torch.equal(by_parts(vae, latents, parts(latents)), expected)


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
    images, audio, rate, *more = GetVideoComponents.execute(video).result
    expected = to_bytes(host_decode(vae, latents)[0])
    assert torch.equal(images, encoded(expected, fps, tmp_path / "a.mp4"))
    assert images.shape == (41, 32, 32, 3)
    assert (audio, rate) == (None, fps)
    assert more[:1] in ([], [8])  # bit depth; 0.24 has no more, 0.33 has colours too
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
    (codec,) = (given for given in SaveVideo.GET_SCHEMA().inputs if given.id == "codec")
    plain = isinstance(codec, io.Combo.Input)  # older hosts
    SaveVideo.execute(video, "again", "auto", "auto" if plain else {"codec": "auto"})
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
    """Of all parts made so far only the newest is alive."""
    alive = weakref.WeakSet()
    most = 0
    for part in decode_video(tiny_vae.vae("taehv"), tiny_vae.latents(50, size=2), ProgressBar(50)):
        alive.add(part)
        most = max(most, len(alive))
        assert len(part) <= 33
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


# --- cuts -----------------------------------------------------------------------------------------

# Three scenes, of which the first two come back: pieces of 12, 9, 9, 6, 3 and 3 latent frames.
FILM = tuple(Piece(*p) for p in [(0, 0), (12, 1), (21, 0), (30, 2), (36, 1), (39, 0)])
FILM_FRAMES = 42
NEW = (0, 1, 3)  # pieces in which a scene is new


def film_of_scenes(scenes):
    """One latent of the scenes in their pieces."""
    shown = [0] * len(scenes)
    found = []
    for piece, end in zip(FILM, ends(FILM, FILM_FRAMES), strict=True):
        length, first = end - piece.first_frame, shown[piece.scene]
        found.append(scenes[piece.scene][:, :, first : first + length])
        shown[piece.scene] += length
    return torch.cat(found, 2)


def film_latents(kind, batch=1):
    return [
        tiny_vae.latents(frames, kind=kind, batch=batch, seed=seed)
        for seed, frames in enumerate((24, 12, 6))
    ]


@functools.cache
def film_and_pictures(kind):
    latents = film_of_scenes(film_latents(kind))
    return latents, by_parts(tiny_vae.vae(kind), latents, parts(latents, FILM), FILM)


def in_pieces(images):
    """The pictures of each piece of the film."""
    last = [4 * (end - 1) + 1 for end in ends(FILM, FILM_FRAMES)]
    return [images[:, a:b] for a, b in itertools.pairwise([0, *last])]


def four_times(images):
    """A scene that was decoded alone, as it stands in a film that begins with another."""
    return torch.cat([images[:, :1].expand(-1, 4, -1, -1, -1), images[:, 1:]], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_scene_is_the_one_decoded_alone_bit_for_bit(kind):
    vae, scenes = tiny_vae.vae(kind), film_latents(kind)
    _, images = film_and_pictures(kind)
    assert images.shape[1] == 4 * (FILM_FRAMES - 1) + 1
    for number in NEW:
        scene, alone = FILM[number].scene, scenes[FILM[number].scene]
        length = ends(FILM, FILM_FRAMES)[number] - FILM[number].first_frame
        expected = host_decode(vae, alone[:, :, :length])
        piece = in_pieces(images)[number]
        assert torch.equal(piece, four_times(expected) if scene else expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_that_comes_back_goes_on_as_if_it_had_not_been_left(kind):
    """TAEHV looks back less than nine frames; the Wan VAE here is given all that there were."""
    vae = tiny_vae.vae(kind)
    for left in (1, 2, 5, 9, 12) if kind == "taehv" else (1, 2, 6, 9):
        scene, other = tiny_vae.latents(left + 4, kind=kind), tiny_vae.latents(3, kind=kind, seed=1)
        latents = torch.cat([scene[:, :, :left], other, scene[:, :, left:]], 2)
        pieces = (Piece(0, 0), Piece(left, 1), Piece(left + 3, 0))
        images = by_parts(vae, latents, parts(latents, pieces), pieces)
        expected = host_decode(vae, scene)
        assert (images[:, -16:] - expected[:, -16:]).abs().max() < 1e-5


@torch.inference_mode()
def test_a_long_scene_comes_back_within_half_a_step_of_a_byte():
    """With trained weights: those that are drawn look back much further."""
    vae, rng = load_vae(), random.Random("return")
    scene, other = (
        vae.encode(draw(random_scene(rng), torch.arange(frames)).movedim(1, -1))
        for frames in (81, 9)
    )
    latents = torch.cat([scene[:, :, :15], other, scene[:, :, 15:]], 2)
    pieces = (Piece(0, 0), Piece(15, 1), Piece(18, 0))
    images = by_parts(vae, latents, parts(latents, pieces), pieces)[:, -24:]
    error = 255 * (images - vae.decode(scene)[:, -24:]).abs()
    assert error.max() < 0.5
    assert error.mean() < 0.002


@pytest.mark.parametrize("kind", ["wan", "taehv"])
@pytest.mark.parametrize("size", [3, 5])  # 5 does not end at cuts
def test_a_film_has_the_same_pictures_by_chunks_and_by_parts(kind, size):
    latents, images = film_and_pictures(kind)
    chunks = by_parts(tiny_vae.vae(kind), latents, latents.split(size, 2), FILM)
    assert (chunks - images).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_cuts_that_are_told_when_they_come_give_the_same_pictures(kind):
    latents, images = film_and_pictures(kind)
    decoder, found = VideoDecoder(tiny_vae.vae(kind), latents), []
    for part in parts(latents, FILM):
        decoder.pieces = tuple(piece for piece in FILM if piece.first_frame <= decoder.frames)
        found += decoder.push(part)
    assert torch.equal(torch.cat(found, 1), images)


@pytest.mark.parametrize("told", [0, 12])
def test_a_live_film_is_the_one_of_the_node(tmp_path, told):
    vae, (latents, images) = tiny_vae.vae(), film_and_pictures("wan")
    prompt = {"model": tiny.model("wan"), "positive": tiny.conditioning(1), "seed": 0}
    request = Request(**prompt, width=32, height=32, length=images.shape[1])

    def open_writer(width, height):
        return open_video("live", fps=16.0, width=width, height=height, metadata=None)

    live = LiveVideo(vae, request, open_writer, WHOLE if told else FILM)
    for chunk in latents[:, :, :told].split(3, 2) if told else ():
        live.append(chunk)
    live.follow(FILM, [(0.0, "a"), (1.0, "b")])
    for chunk in latents[:, :, told:].split(3, 2):
        live.append(chunk)
    (video,) = decode(latents, vae, pieces=FILM)
    encoded(to_bytes(images[0]), 16.0, tmp_path / "expected.mp4")
    files = *live.finish(), video.get_stream_source(), tmp_path / "expected.mp4"
    with av.open(str(files[0])) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["a", "b"]
    *shown, expected = (torch.stack([*frames_of(file)]).float() for file in files)
    for pictures in shown:
        assert pictures.shape == expected.shape
        assert (pictures - expected).abs().mean((1, 2, 3)).max() < 12  # a ghost is 50


@pytest.mark.parametrize(
    ("kind", "failing"),  # in a new scene; while one that comes back is seen again; after that
    [("wan", 8), ("wan", 14), ("wan", 19), ("taehv", 50), ("taehv", 100), ("taehv", 130)],
)
def test_running_out_of_memory_after_a_cut_changes_nothing(kind, failing):
    vae, (latents, expected) = tiny_vae.vae(kind), film_and_pictures(kind)
    decoder = vae.first_stage_model.decoder
    with exhausted(decoder.head[0] if kind == "wan" else decoder[-1], {failing}):
        assert torch.equal(by_parts(vae, latents, parts(latents, FILM), FILM), expected)


def test_the_host_copies_the_cuts_of_a_latent_and_the_node_reads_them():
    latent = latent_of(film_of_scenes(film_latents("wan", batch=2)), FILM)
    (one,) = host_nodes.LatentFromBatch().frombatch(latent, 1, 1)
    (many,) = host_nodes.RepeatLatentBatch().repeat(one, 3)
    (part,) = host_nodes.LatentUpscaleBy().upscale(one, "nearest-exact", 2.0)
    for copied in (latent, one, many, part):
        assert pieces_of(copied) == FILM
    assert pieces_of({"samples": latent["samples"]}) == WHOLE
    assert KEY not in latent_of(latent["samples"], WHOLE)


@pytest.mark.parametrize("change", ["shortened", "joined"])
def test_cuts_of_another_length_are_refused_before_any_decoding(change, output):
    latent = latent_of(film_of_scenes(film_latents("wan")), FILM)
    if change == "shortened":
        (latent,) = TrimVideoLatent.execute(latent, 3).result
    else:
        import comfy_extras.nodes_post_processing  # noqa: F401  (the host's two import each other)
        from comfy_extras.nodes_latent import LatentConcat

        (latent,) = LatentConcat.execute(latent, latent, "t").result
    frames = latent["samples"].shape[2]
    inputs = {"samples": latent, "vae": tiny_vae.vae(), "fps": 16.0, "filename_prefix": "a"}
    with pytest.raises(ValueError, match=f"samples has {frames} latent frames, .* a video of 42: "):
        tiny.node("RelaxForcingDecode", **inputs)
    assert not output.exists()
