"""The stream node makes the video of sampler and decoder, and loses nothing that was finished."""

import copy
import dataclasses
import functools
import gc
import json
import shutil
import threading
from pathlib import Path

import av
import comfy.model_management
import crash_run
import folder_paths
import latent_preview
import nodes as host_nodes
import numpy
import pytest
import seen
import tiny
import tiny_vae
import torch
from comfy.cli_args import args
from comfy_api.latest._io import Hidden, HiddenHolder
from comfy_execution.utils import CurrentNodeContext
from comfy_extras.nodes_wan import TrimVideoLatent

from demo.bundle import load_clip
from relax_memory.direction.grammar import parse
from relax_memory.film.fragments import close
from relax_memory.host.directed import Directed, with_direction
from relax_memory.saved.rollout import SavedRollout

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
    inputs = {"model": tiny.remembering(), "positive": tiny.conditioning(1)} | VIDEO | settings
    return tiny.node("RelaxForcingSampler", **inputs)


def stream(vae=None, fps=16.0, **settings):
    inputs = {"model": tiny.remembering(), "positive": tiny.conditioning(1)} | VIDEO | settings
    vae = vae or tiny_vae.vae()
    return tiny.node("RelaxForcingStream", vae=vae, fps=fps, filename_prefix="video/live", **inputs)


def pictures_of(videos) -> numpy.ndarray:
    return crash_run.pictures(Path(videos[0].get_stream_source()))


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
    unlike = (live - whole).abs().mean(dim=(1, 2, 3))  # encoded in other groups of pictures
    unlike_next = (live[1:] - whole[:-1]).abs().mean(dim=(1, 2, 3))
    assert unlike.max() < unlike_next.min() / 4
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
    seen = crash_run.pictures(partial)
    assert len(seen) == 12 * saved_chunks(output) - 3 > 0
    videos, resumed, _ = stream()
    assert torch.equal(resumed["samples"], whole["samples"])
    same = [pictures_of(video) for video in (videos, undisturbed)]
    assert numpy.array_equal(*same)
    assert numpy.array_equal(seen, same[0][: len(seen)])


def test_where_one_file_cannot_be_opened_no_other_stays(output, monkeypatch):
    open_file, opened = open, []

    def refuse_the_second(path, mode="r", *args, **kwargs):
        if mode == "xb":
            opened.append(path)
            if len(opened) == 2:
                raise OSError(28, "No space left on device", str(path))
        return open_file(path, mode, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="No space left on device"):
        patch.setattr("builtins.open", refuse_the_second)
        stream(batch_size=2)
    assert len(opened) == 2
    assert not list(output.rglob("*.mp4"))


def test_a_prefix_is_the_beginning_of_the_file():
    prefix = {"samples": torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(1))}
    videos, latents, _ = stream(prefix=prefix, autosave=False, length=25)
    assert torch.equal(latents["samples"][:, :, :2], prefix["samples"])
    assert videos[0].get_components().images.shape[0] == 25


def test_a_vae_that_cannot_stream_is_refused_before_sampling(output):
    with pytest.raises(ValueError, match="samples has 16 channels, but vae is"):
        stream(vae=tiny_vae.vae("taehv22"))
    assert not list(output.rglob("*.mp4"))


def test_a_vae_on_another_device_decodes_while_the_next_chunk_is_sampled():
    """The other device is the CPU under another name."""
    vae = copy.copy(tiny_vae.vae())
    vae.device = torch.device("cpu", 0)
    network = tiny.model("wan").model.diffusion_model  # the one that `tiny.remembering` has
    decoder = vae.first_stage_model.decoder
    sampled, waited = threading.Event(), []

    def wait(*_):
        sampled.clear()
        waited.append(sampled.wait(0 if waited else 30))

    hooks = [network.register_forward_hook(lambda *_: sampled.set())]
    hooks.append(decoder.conv1.register_forward_pre_hook(wait))
    try:
        videos, latents, _ = stream(vae=vae, autosave=False)
    finally:
        for hook in hooks:
            hook.remove()
    assert waited[0]  # later ones may come when all is sampled
    undisturbed, expected, _ = stream(autosave=False)
    assert torch.equal(latents["samples"], expected["samples"])
    assert numpy.array_equal(pictures_of(videos), pictures_of(undisturbed))


def test_the_latents_are_held_once():
    """By the video, its decoder and the previews together, whatever the length."""
    held = []

    def latents_held(*_):
        found = (t for t in gc.get_objects() if type(t) is torch.Tensor and t.ndim == 5)
        storages = (t.untyped_storage() for t in found if t.shape[1::2] == (16, 4))
        held.append(sum({s.data_ptr(): s.nbytes() for s in storages}.values()))

    decoder = tiny_vae.vae().first_stage_model.decoder
    hook = decoder.conv1.register_forward_pre_hook(latents_held)
    gc.collect()
    latents_held()  # what other tests have left
    try:
        _, latents, _ = stream(length=237, steps=1, autosave=False)
    finally:
        hook.remove()
    assert max(held) - held[0] < 1.5 * latents["samples"].nbytes


class Animated(latent_preview.LatentPreviewer):
    def __init__(self):
        self.frames = set()

    def decode_latent_to_preview_image(self, preview_format, x0):
        self.frames.add(x0.shape[2])


class Still(Animated, latent_preview.Latent2RGBPreviewer):
    pass


@pytest.mark.parametrize(("previewer", "frames"), [(Animated(), 9), (Still(), 3)])
def test_only_animated_previewers_get_the_whole_video(previewer, frames, monkeypatch):
    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: previewer)
    sample(autosave=False)
    assert previewer.frames == {frames}


@pytest.fixture
def told():
    """What the node that is being executed shows as text."""
    with seen.node() as browser:
        yield browser.texts


def test_a_stopped_stream_says_what_there_is_and_the_next_shows_it_again(output, monkeypatch, told):
    (left,) = stop_after(2, output, monkeypatch)
    assert told[-1] == (
        "2 of 4 chunks are saved: queue again to continue. "
        f"The video so far: {left.relative_to(output)}"
    )
    shown = []
    for limit in ("MIN_INTERVAL", "MIN_PERCENT"):  # the host leaves out what comes too fast
        monkeypatch.setattr(f"comfy.utils.PROGRESS_THROTTLE_{limit}", 0)
    monkeypatch.setattr(
        "comfy.utils.PROGRESS_BAR_HOOK",
        lambda value, total, preview, **_: shown.append((value, total, preview is not None)),
    )
    stream(length=FOUR_CHUNKS)
    assert shown == [(1, 2, False), (2, 2, False), *((step, 4, False) for step in range(1, 5))]


@pytest.mark.parametrize("device", ["cpu", "cpu:0"], ids=["in turn", "beside"])
def test_it_says_when_decoding_starts_over(device, told):
    vae = copy.copy(tiny_vae.vae())
    vae.device = torch.device(device)
    failed = []

    def fail_once(*_):
        if len(failed) < 2:
            failed.append(len(failed))
            if len(failed) == 2:
                raise torch.OutOfMemoryError("no memory left")

    hook = vae.first_stage_model.decoder.conv1.register_forward_pre_hook(fail_once)
    try:
        stream(vae=vae, autosave=False)
    finally:
        hook.remove()
    assert told.count("Out of memory while decoding: starting over with less of it") == 1


@pytest.mark.parametrize("disabled", [False, True])
def test_the_workflow_is_in_the_file_unless_the_host_writes_none(disabled, monkeypatch):
    hidden = {Hidden.prompt: {"7": {}}, Hidden.extra_pnginfo: {"workflow": {"nodes": [1]}}}
    monkeypatch.setattr(args, "disable_metadata", disabled)
    monkeypatch.setattr(tiny.pack()["RelaxForcingStream"], "hidden", HiddenHolder.from_dict(hidden))
    metadata = stream(autosave=False, length=9)[0][0].get_components().metadata or {}
    written = {name: metadata[name] for name in {"prompt", "workflow"} & metadata.keys()}
    assert written == ({} if disabled else {"prompt": '{"7": {}}', "workflow": '{"nodes": [1]}'})


def test_a_steered_file_has_the_last_words_in_both_tags_also_after_a_kill(tmp_path, monkeypatch):
    told = {"text": "a red circle", "transition": "keep", "blend_seconds": 1.0}
    schedule = {"id": 5, "widgets_values": list(told.values())}
    hidden = {Hidden.prompt: {"5": {"inputs": dict(told)}}}
    hidden[Hidden.extra_pnginfo] = {"workflow": {"nodes": [schedule]}}
    pack = tiny.pack()
    for name, node_id in (("RelaxForcingPromptSchedule", "5"), ("RelaxForcingStream", "3")):
        holder = HiddenHolder.from_dict(hidden | {Hidden.unique_id: node_id})
        monkeypatch.setattr(pack[name], "hidden", holder)
    positive = tiny.node("RelaxForcingPromptSchedule", clip=load_clip(), **told)[0]
    desk, writer = tiny.part("host.steering.desk"), tiny.part("film.mp4").VideoWriter
    append, killed, answers = writer.append, tmp_path / "killed.partial.mp4", []

    def appending(self, images):
        append(self, images)
        if self.frames == 9:
            answers.append(desk.desk_of("p", "3").direct(desk.Wish(text="a blue square")))
        if self.frames == 33:
            shutil.copy(self.partial, killed)  # what a kill would leave now

    monkeypatch.setattr(writer, "append", appending)
    with CurrentNodeContext("p", "3"):
        ((video,), *_) = stream(positive=positive, autosave=False, length=45)
    assert close(killed)
    words = answers[0]["text"]
    assert "a blue square" in words
    for path in (video.get_stream_source(), killed):
        with av.open(str(path)) as container:
            tags = {tag: json.loads(container.metadata[tag]) for tag in ("prompt", "workflow")}
        assert tags["prompt"]["5"]["inputs"]["text"] == words
        assert tags["workflow"]["nodes"][0]["widgets_values"][0] == words


LONG = "a dog that " + "runs and " * 20 + "sleeps"


def directed(text):
    script = parse(text)
    prompts = tuple(tiny.conditioning(seed) for seed, _ in enumerate(script.cues))
    return with_direction(Directed(script=script, prompts=prompts))


def chapters_in(videos):
    """Title and second of each, the same in every file."""
    found = []
    for video in videos:
        with av.open(video.get_stream_source()) as container:
            found.append(
                [(c["metadata"]["title"], c["start"] / 1000) for c in container.chapters()]
            )
    assert found == found[:1] * len(found)
    return found[0]


def decode(latent, fps=16.0):
    given = {"samples": latent, "vae": tiny_vae.vae(), "fps": fps}
    return tiny.node("RelaxForcingDecode", filename_prefix="video/whole", **given)[0]


@pytest.mark.parametrize("how", ["keep", "cut"])
def test_chapters_are_called_by_the_words_of_their_shots(how):
    positive = directed(f"GLOBAL: a film\n[0s] a cat\n[1.3s {how}] {LONG}")
    inputs = {"positive": positive, "autosave": False}
    told = [("a cat", 0.0), (LONG[:59] + "…", 1.313)]
    videos, streamed, _ = stream(**inputs)
    assert chapters_in(videos) == told
    latent, _ = sample(**inputs | {"batch_size": 2})
    for made in (latent, streamed):
        assert chapters_in(decode(made)) == told
    (one,) = host_nodes.LatentFromBatch().frombatch(latent, 1, 1)
    assert chapters_in(decode(one, fps=32.0)) == [("a cat", 0.0), (told[1][0], 0.657)]


def test_a_video_without_shots_or_of_another_length_has_no_chapters():
    positive = directed("[0s] a cat\n[1.3s] a dog")
    latent, _ = sample(positive=positive, autosave=False)
    (shorter,) = TrimVideoLatent.execute(latent, 3).result
    assert chapters_in(decode(shorter)) == []
    assert chapters_in(decode(sample(positive=directed("[0s] a cat"), autosave=False)[0])) == []


@pytest.mark.parametrize("text", ["[0s] a cat\n[1.3s] a dog", "Scene a: a cat\nScene b: a cat"])
def test_a_saved_video_has_the_chapters_that_it_had(output, text):
    videos, *_ = stream(positive=directed(text))
    (name,) = [path.name for path in (output / "relax_forcing").iterdir()]
    (latent,) = tiny.node("RelaxForcingResume", rollout=name)
    assert chapters_in(decode(latent)) == chapters_in(videos)
    (begun,) = tiny.node("RelaxForcingResume", rollout=name, until_seconds=0.6)
    assert chapters_in(decode(begun)) == []


@pytest.mark.parametrize(("device", "takes_turns"), [("cpu", True), ("cpu:0", False)])
def test_room_for_a_vae_on_the_same_device_is_left(device, takes_turns, monkeypatch):
    vae = copy.copy(tiny_vae.vae())
    vae.device = torch.device(device)
    reserve = tiny.part("host.room.reserve")
    spared, decide = [], reserve.make_budget

    def deciding(*arguments, spared_bytes, **sizes):
        spared.append(spared_bytes)
        return decide(*arguments, spared_bytes=spared_bytes, **sizes)

    monkeypatch.setattr(reserve, "make_budget", deciding)
    stream(vae=vae, autosave=False, length=9)
    assert [left > vae.patcher.model_size() for left in spared] == [takes_turns]


GPU, CPU = torch.device("cpu", 0), torch.device("cpu")


def full_gpu(model, vae, monkeypatch) -> None:
    """The CPU under another name as a GPU with room for the model, or for the VAE at work."""
    room = model.model_size() + 2**20
    patch = functools.partial(monkeypatch.setattr, comfy.model_management)

    def free(device=None, torch_free_too=False):
        loaded = comfy.model_management.current_loaded_models
        left = room - sum(m.model_loaded_memory() for m in loaded if m.device == GPU)
        return (left, 0) if torch_free_too else left

    patch("get_free_memory", free)
    patch("is_device_cpu", lambda device: device == CPU)
    patch("vram_state", comfy.model_management.VRAMState.NORMAL_VRAM)
    patch("minimum_inference_memory", lambda: 0)
    patch("extra_reserved_memory", lambda: 0)
    patch("current_loaded_models", [])
    monkeypatch.setattr(model, "load_device", GPU)
    monkeypatch.setattr(model.model, "memory_required", lambda *_, **__: 2**10)
    room_beside = room - vae.patcher.model_size()
    monkeypatch.setattr(tiny.part("host.film.decode"), "needed_bytes", lambda *_: room_beside)


@pytest.mark.parametrize("device", [GPU, CPU], ids=["on the GPU", "elsewhere"])
def test_decoding_leaves_the_model_as_it_was_loaded(device, monkeypatch):
    expected, _ = sample(autosave=False, length=45)
    model, vae = tiny.remembering(), copy.copy(tiny_vae.vae())
    network, decoder = model.model.diffusion_model, vae.first_stage_model.decoder
    monkeypatch.setattr(vae, "device", device)
    monkeypatch.setattr(vae.patcher, "load_device", device)
    full_gpu(model, vae, monkeypatch)
    sampling, decoding, loads = [], [], []
    load = comfy.model_management.load_models_gpu

    def count(models, **kwargs):
        loads.append(vae.patcher in models)
        load(models, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", count)
    hooks = [
        network.register_forward_pre_hook(lambda *_: sampling.append(model.loaded_size())),
        decoder.conv1.register_forward_pre_hook(lambda *_: decoding.append(model.loaded_size())),
    ]
    try:
        _, latents, _ = stream(model=model, vae=vae, autosave=False, length=45)
    finally:
        for hook in hooks:
            hook.remove()
        model.detach()
    assert torch.equal(latents["samples"], expected["samples"])
    assert len(set(sampling)) == 1
    assert sampling[0] > 0.9 * model.model_size()
    if device == GPU:
        assert max(decoding) < 0.5 * model.model_size()
    else:
        assert sum(loads) == 1


# --- what earlier runs have left ------------------------------------------------------------------

FOUR_CHUNKS, TWO_CHUNKS = 45, 21


def stop_after(chunks, output, monkeypatch, **settings) -> set[Path]:
    """Interrupt a stream once it has saved so many chunks; the unfinished videos that it leaves."""
    before, enough = unfinished(output), saved_chunks(output) + chunks
    interrupted = pytest.raises(comfy.model_management.InterruptProcessingException)
    with monkeypatch.context() as patch, interrupted:
        interrupt_when(lambda: saved_chunks(output) >= enough, patch)
        stream(**{"length": FOUR_CHUNKS} | settings)
    return unfinished(output) - before


def unfinished(output) -> set[Path]:
    return set(output.rglob("*.partial.mp4"))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_finished_video_replaces_those_of_its_own_earlier_runs(output, monkeypatch, batch_size):
    (other,) = stop_after(1, output, monkeypatch, seed=8)
    for _ in range(2):
        left = stop_after(1, output, monkeypatch, batch_size=batch_size)
        assert len(left) == batch_size
    stream(length=FOUR_CHUNKS, batch_size=batch_size)
    assert unfinished(output) == {other}
    assert len(crash_run.pictures(other)) == 9
    stream(length=FOUR_CHUNKS, seed=8)
    assert not unfinished(output)


def test_without_autosave_nothing_is_deleted(output, monkeypatch):
    left = stop_after(1, output, monkeypatch)
    stream(length=FOUR_CHUNKS, autosave=False)
    assert unfinished(output) == left


def test_a_shorter_video_does_not_replace_a_longer_unfinished_one(output, monkeypatch):
    left = stop_after(3, output, monkeypatch)
    stream(length=TWO_CHUNKS)
    assert unfinished(output) == left
    stream(length=FOUR_CHUNKS)
    assert not unfinished(output)


def test_other_pictures_under_the_same_name_stay(output, monkeypatch):
    (other,) = stop_after(1, output, monkeypatch, seed=8)
    (left,) = stop_after(1, output, monkeypatch)
    other.replace(left)
    content = left.read_bytes()
    stream(length=FOUR_CHUNKS)
    assert unfinished(output) == {left}
    assert left.read_bytes() == content


@pytest.mark.parametrize("names", [None, 3, {"video": 1}])
def test_names_that_are_no_list_are_passed_over(output, monkeypatch, names):
    left = stop_after(1, output, monkeypatch)
    (rollout,) = map(SavedRollout, output.glob("relax_forcing/*"))
    settings = rollout.description.settings | {"unfinished videos": names}
    rollout.describe(dataclasses.replace(rollout.description, settings=settings))
    stream(length=FOUR_CHUNKS)
    assert unfinished(output) == left


def test_a_name_that_leads_out_of_the_output_folder_is_not_followed(output, tmp_path, monkeypatch):
    (left,) = stop_after(1, output, monkeypatch)
    outside = tmp_path / "outside.partial.mp4"
    outside.write_bytes(left.read_bytes())
    inside = left.with_name("renamed.mp4")
    inside.write_bytes(left.read_bytes())
    names = ["../outside.partial.mp4", "video/../../outside.partial.mp4", str(outside), 3, None]
    names += [
        "video/renamed.mp4",
        "",
        "\0",
        "x" * 5000,
        "video",
        "video/link.partial.mp4",
        [],
        "\ud800",
    ]
    left.with_name("link.partial.mp4").symlink_to(left)
    (rollout,) = map(SavedRollout, output.glob("relax_forcing/*"))
    settings = rollout.description.settings
    assert settings["unfinished videos"] == [f"video/{left.name}"]
    settings = settings | {"unfinished videos": names}
    rollout.describe(dataclasses.replace(rollout.description, settings=settings))
    stream(length=FOUR_CHUNKS)
    assert outside.exists() and inside.exists() and left.exists()
