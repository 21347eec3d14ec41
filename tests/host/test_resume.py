"""A rollout that was cut, by a prefix or an accident, goes on bit for bit as if it had not been."""

import dataclasses
import functools
import json
import logging
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import av
import comfy.model_management
import comfy.sd
import comfy.utils
import crash_run
import folder_paths
import pytest
import tiny
import torch
from comfy.cli_args import args
from comfy.model_management import InterruptProcessingException
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from conftest import ROOT

from relax_memory.film.mp4 import VideoWriter
from relax_memory.host.sampling.generate import Request, generate
from relax_memory.saved.chunk import SavedChunk
from relax_memory.saved.graph import write_graph

MODEL = tiny.model("wan")  # the one that `tiny.remembering` has
POSITIVE, NEGATIVE, OTHER = (tiny.conditioning(seed) for seed in (1, 2, 3))


def prefix(frames, seed=5, samples=1):
    shape = (samples, 16, frames, 4, 6)
    return {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(seed))}


def window():
    settings = {"sink_frames": 1, "window_frames": 5, "rope": "hybrid"}
    return tiny.node("RelaxForcingWindowMemory", model=MODEL, **settings)[0]


GUIDED = {"cfg": 3.0, "negative": NEGATIVE, "batch_size": 2}
CASES = {
    "plain": dict,
    "batch of 2, guided": lambda: GUIDED,
    "absolute": lambda: {"model": tiny.remembering(rope="absolute")},
    "window": lambda: {"model": window()},
    "host memory": lambda: {"model": tiny.remembering(reservoir_device="cpu")},
    "fp8": lambda: {"model": tiny.remembering(reservoir_dtype="fp8")},
    "history of 2, guided": lambda: {"model": tiny.remembering(history_frames=2)} | GUIDED,
    "from 1 frame": lambda: {"prefix": prefix(1)},
    "from 8 frames, batch of 2": lambda: {"prefix": prefix(8), "batch_size": 2},
    "frame by frame": lambda: {"frames_per_chunk": 1, "length": 93},
    "trimmed": lambda: {"length": 125},
}

NEVER = {"clean_pass": "never"}
NO_CLEAN_PASS = {  # what they remember does not follow from their latents
    "no clean pass": lambda: NEVER,
    "no clean pass, batch of 2, guided": lambda: GUIDED | NEVER,
    "no clean pass, frame by frame": lambda: NEVER | {"frames_per_chunk": 1, "length": 93},
    "no clean pass, from 8 frames": lambda: NEVER | {"prefix": prefix(8)},
    "no clean pass, fp8": lambda: NEVER | {"model": tiny.remembering(reservoir_dtype="fp8")},
    "no clean pass, 1 step": lambda: NEVER | {"steps": 1},
}
INTERRUPTED = CASES | NO_CLEAN_PASS


@functools.cache
def whole(name):
    """The undisturbed video of a case and its trace."""
    return sample(autosave=False, **INTERRUPTED[name]())


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


def sample(autosave=True, **settings):
    return crash_run.sample(output_folder(), autosave=autosave, **settings)


def saved():
    return crash_run.saved_files(output_folder())


def output_folder():
    return Path(folder_paths.get_output_directory())


@contextmanager
def calls_of_the_network(act=lambda: None):
    """A list with an entry for every call; `act` runs before each."""
    calls = []

    def before(*args):
        calls.append(len(calls))
        act()

    hook = MODEL.model.diffusion_model.register_forward_pre_hook(before)
    try:
        yield calls
    finally:
        hook.remove()


@contextmanager
def accident(chunks, error):
    """Something happens in the middle of the chunk after so many saved ones."""

    def act():
        if len(saved()) == chunks:
            error()

    with calls_of_the_network(act):
        yield


def interrupt():
    comfy.model_management.interrupt_current_processing()


def out_of_memory():
    raise torch.OutOfMemoryError("Allocation on device")


def untimed(trace):
    chunks = tuple(dataclasses.replace(chunk, seconds=0) for chunk in trace.chunks)
    return dataclasses.replace(trace, chunks=chunks)


@pytest.mark.parametrize("name", CASES)
def test_a_prefix_of_its_own_latents_goes_on_as_the_whole(output, name):
    latents, trace = whole(name)
    ends = [chunk.frames[-1] + 1 for chunk in trace.chunks if not chunk.given]
    for frames in (ends[0], ends[len(ends) // 2], ends[-2]):
        settings = CASES[name]() | {"prefix": {"samples": latents[:, :, :frames]}}
        assert torch.equal(sample(autosave=False, **settings)[0], latents), frames


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_run_goes_on_as_the_whole(output, name):
    latents, trace = whole(name)
    given = sum(chunk.given for chunk in trace.chunks)
    for chunks in (1, given + 1, len(trace.chunks) - 1):
        before = saved()
        with accident(chunks, interrupt), pytest.raises(InterruptProcessingException):
            sample(**INTERRUPTED[name]())
        assert len(saved()) == chunks
        assert before.items() <= saved().items()  # nothing finished was made again
    again, again_trace = sample(**INTERRUPTED[name]())
    assert torch.equal(again, latents)
    assert untimed(again_trace) == untimed(trace)


@pytest.mark.parametrize("chunks", [0, 1, 7, 11])
def test_an_accident_costs_the_chunk_in_work_and_no_more(output, chunks):
    latents, _ = whole("plain")
    with accident(chunks, out_of_memory), pytest.raises(torch.OutOfMemoryError):
        sample()
    before = saved()
    assert len(before) == chunks
    with calls_of_the_network() as calls:
        again, _ = sample()
    assert torch.equal(again, latents)
    assert before.items() <= saved().items()
    passes = 5  # four steps and the clean pass, which the last chunk does not need
    assert len(calls) == chunks + passes * (crash_run.CHUNKS - chunks) - 1


def test_what_is_complete_is_not_sampled_again(output):
    latents, trace = sample()
    with calls_of_the_network() as calls:
        again, again_trace = sample()
        shorter, shorter_trace = sample(length=77)
    assert not calls
    assert torch.equal(again, latents)
    assert torch.equal(shorter, latents[:, :, :20])
    assert again_trace == trace
    assert shorter_trace == dataclasses.replace(trace, chunks=trace.chunks[:7])


def test_a_longer_video_begins_with_the_saved_one(output):
    latents, _ = whole("plain")
    sample(chunks=4)
    before = saved()
    again, _ = sample()
    assert torch.equal(again, latents)
    assert before.items() <= saved().items()
    assert len(saved()) == crash_run.CHUNKS


@pytest.mark.parametrize("name", NO_CLEAN_PASS)
def test_without_clean_passes_a_longer_video_begins_with_the_saved_one_too(output, name):
    """Also the last chunk of the shorter one, which nothing has read, keeps what it was given."""
    latents, _ = whole(name)
    settings = INTERRUPTED[name]()
    sample(**settings | {"length": 93 if "frame by frame" not in name else 45})
    before = saved()
    assert torch.equal(sample(**settings)[0], latents)
    assert before.items() <= saved().items()
    given, made = SavedChunk.read(min(map(Path, saved()))), SavedChunk.read(max(map(Path, saved())))
    assert (given.noisy is None) == ("prefix" in settings)
    assert made.noisy.shape == made.latents.shape


def test_without_clean_passes_each_chunk_takes_one_pass_less(output):
    with calls_of_the_network() as calls:
        noisy, _ = sample(**NEVER)
    assert len(calls) == 4 * crash_run.CHUNKS
    latents, _ = whole("plain")
    assert torch.equal(noisy[:, :, :3], latents[:, :, :3])
    assert (noisy[:, :, 3:] - latents[:, :, 3:]).abs().max() > 0.01
    assert not torch.equal(sample()[0], noisy)  # and neither takes the other's chunks


def test_finished_chunks_are_handed_out_in_order_once_they_are_safe(output):
    request = {"model": MODEL, "positive": POSITIVE, "prefix": prefix(4)["samples"]}
    request |= {"width": 48, "height": 32, "seed": 1, "length": 61, "autosave": True}
    handed_out = []

    class Watching:
        def __init__(self, stop_after=None):
            self.stop_after = stop_after

        def keep(self, finished):
            assert len(saved()) > finished.chunk.index
            handed_out.append((finished.chunk.index, finished.latents.clone()))
            if len(handed_out) == self.stop_after:
                raise InterruptProcessingException

    with pytest.raises(InterruptProcessingException):
        generate(Request(**request), Watching(stop_after=4))
    first = handed_out.copy()
    for _ in range(2):
        handed_out.clear()
        latents, _ = generate(Request(**request), Watching())
        assert [index for index, _ in handed_out] == list(range(6))
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, handed_out, strict=False))
        assert torch.equal(torch.cat([x for _, x in handed_out], dim=2), latents)


# --- what decides whether a saved chunk fits ------------------------------------------------------


def with_lora(strength=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    name = "diffusion_model.blocks.1.self_attn.q"
    lora = {
        f"{name}.lora_A.weight": torch.randn(4, 256, generator=generator),
        f"{name}.lora_B.weight": torch.randn(256, 4, generator=generator) * 0.1,
    }
    return comfy.sd.load_lora_for_models(tiny.remembering(), None, lora, strength, 0)[0]


def other_model():
    return tiny.node("RelaxForcingMemory", model=tiny.model(seed=1), **tiny.MEMORY)[0]


def with_attention_override():
    model = tiny.remembering()
    model.model_options["transformer_options"]["optimized_attention_override"] = (
        lambda attention, *args, **kwargs: attention(*args, **kwargs)
    )
    return model


def with_shift(shift):
    return ModelSamplingSD3().patch(tiny.remembering(), shift)[0]


CHANGES = {
    "positive": lambda: {"positive": OTHER},
    "seed": lambda: {"seed": 8},
    "width": lambda: {"width": 64},
    "height": lambda: {"height": 48},
    "negative, cfg": lambda: {"cfg": 3.0, "negative": NEGATIVE},
    "frames_per_chunk": lambda: {"frames_per_chunk": 2},
    "batch_size": lambda: {"batch_size": 2},
    "prefix": lambda: {"prefix": prefix(3)},
    "clean_pass": lambda: NEVER,
    "steps, shift or sigmas": lambda: {"steps": 3},
    "model": lambda: {"model": other_model()},
    "memory": lambda: {"model": tiny.remembering(sink_frames=1)},
    "LoRAs and model patches": lambda: {"model": with_lora()},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_begins_anew_says_so_and_leaves_the_old_alone(output, caplog, name):
    caplog.set_level(logging.INFO)
    with accident(2, interrupt), pytest.raises(InterruptProcessingException):
        sample(chunks=3)
    before = saved()
    changed, _ = sample(chunks=3, **CHANGES[name]())
    assert before.items() <= saved().items()
    assert f"Starts anew: {name} changed since the unfinished rollout" in caplog.text
    assert torch.equal(changed, sample(autosave=False, chunks=3, **CHANGES[name]())[0])


def test_a_rollout_without_a_chunk_that_can_be_used_is_named(output, caplog):
    caplog.set_level(logging.INFO)
    with accident(2, interrupt), pytest.raises(InterruptProcessingException):
        sample(chunks=3)
    first = min(saved())
    Path(first).write_bytes(b"")
    assert torch.equal(sample(chunks=3)[0], sample(autosave=False, chunks=3)[0])
    name = Path(first).parent.name
    assert f"Starts anew: no chunk of the unfinished rollout {name} can be used." in caplog.text


OTHERS = {
    "sigmas": lambda: [{}, {"sigmas": torch.tensor([1.0, 0.5, 0.0])}],
    "shift": lambda: [{"model": with_shift(shift)} for shift in (5.0, 6.0)],
    "LoRA strength": lambda: [{"model": with_lora(strength)} for strength in (0.5, 0.6)],
    "LoRA": lambda: [{"model": with_lora(seed=seed)} for seed in (0, 1)],
    "prefix": lambda: [{"prefix": prefix(1, seed=seed)} for seed in (5, 6)],
    "negative": lambda: [{"cfg": 3.0, "negative": negative} for negative in (NEGATIVE, OTHER)],
    "fp8": lambda: [{"model": tiny.remembering(reservoir_dtype=d)} for d in ("model", "fp8")],
    "attention": lambda: [{}, {"model": with_attention_override()}],
}


@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS.keys())
def test_no_chunk_fits_two_settings(output, settings):
    for one in settings():
        sample(chunks=1, **one)
    assert len({Path(file).parent for file in saved()}) == 2


SAME = {
    "device of memory": lambda: {"model": tiny.remembering(reservoir_device="cpu")},
    "negative without guidance": lambda: {"negative": NEGATIVE},
    "sigmas made from steps": lambda: {
        "sigmas": comfy.samplers.calculate_sigmas(
            MODEL.get_model_object("model_sampling"), "simple", 4
        )
    },
}


@pytest.mark.parametrize("settings", SAME.values(), ids=SAME.keys())
def test_what_does_not_change_the_video_continues_it(output, settings):
    for one in ({}, settings()):
        sample(chunks=2, **one)
    assert len(saved()) == 2


# --- inputs that were computed elsewhere ----------------------------------------------------------


def interrupted(chunks=2, **settings):
    """An unfinished rollout, and its chunks."""
    with accident(chunks, interrupt), pytest.raises(InterruptProcessingException):
        sample(chunks=3, **settings)
    return saved()


def off_by(share, conditioning):
    """The same embeddings, each token off by this share of its length."""
    ((embeddings, options),) = conditioning
    noise = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(9))
    length = embeddings.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    return [[embeddings + share * length * noise, options]]


def encoded(dtype, brighter=1.0):
    """A picture as image to video encodes it; `--cpu-vae` has another precision than a GPU."""
    rows, columns = torch.linspace(0, 6, 32), torch.linspace(0, 9, 48)
    picture = (rows.sin()[:, None] * columns.cos())[None, ..., None].expand(1, 32, 48, 3) / 2 + 0.5
    weights = comfy.utils.load_torch_file(str(ROOT / "demo" / "models" / "vae.safetensors"))
    return {"samples": comfy.sd.VAE(sd=weights, dtype=dtype).encode(brighter * picture)}


HALF = functools.cache(lambda: encoded(torch.bfloat16))
ELSEWHERE = {
    "picture": lambda: ({"prefix": HALF()}, {"prefix": encoded(torch.float32)}),
    "words": lambda: ({}, {"positive": off_by(0.02, POSITIVE)}),
    "both": lambda: (
        {"prefix": HALF()},
        {"prefix": encoded(torch.float32), "positive": off_by(0.001, POSITIVE)},
    ),
    "words twice": lambda: (
        {"positive": POSITIVE + POSITIVE},
        {"positive": off_by(0.02, POSITIVE) + off_by(0.02, POSITIVE)},
    ),
    "words with padding": lambda: ({"positive": PADDED}, {"positive": off_by(0.02, PADDED)}),
    "negative": lambda: (
        {"cfg": 3.0, "negative": NEGATIVE},
        {"cfg": 3.0, "negative": off_by(0.02, NEGATIVE)},
    ),
}
PADDED = [[torch.nn.functional.pad(POSITIVE[0][0], (0, 0, 0, 120)) * 1.0, {}]]
PADDED[0][0][:, 100:] *= -1.0  # zeros that are negative, as a mask leaves them


@pytest.mark.parametrize("name", ELSEWHERE)
def test_inputs_that_differ_by_rounding_are_taken_as_saved(output, caplog, name):
    caplog.set_level(logging.INFO)
    here, elsewhere = ELSEWHERE[name]()
    before = interrupted(**here)
    latents, trace = sample(chunks=3, **here | elsewhere)
    assert before.items() <= saved().items()
    assert len(saved()) == len(trace.chunks)
    assert torch.equal(latents, sample(autosave=False, chunks=3, **here)[0])
    taken = " and ".join(name for name in ("positive", "negative", "prefix") if name in elsewhere)
    assert re.search(
        rf"Continues after 2 of \d saved chunks \(.+\), with {taken} as saved: "
        r"what is connected now differs by [0-9.]+ % at most",
        caplog.text,
    )


CHANGED = {
    "brighter": lambda: ({"prefix": HALF()}, {"prefix": encoded(torch.bfloat16, brighter=0.97)}),
    "other words": lambda: ({}, {"positive": off_by(0.06, POSITIVE)}),
    "an option": lambda: ({}, {"positive": [[off_by(0.001, POSITIVE)[0][0], {"strength": 0.5}]]}),
}


@pytest.mark.parametrize("name", CHANGED)
def test_inputs_that_people_change_begin_anew(output, caplog, name):
    caplog.set_level(logging.INFO)
    here, changed = CHANGED[name]()
    before = interrupted(**here)
    latents, trace = sample(chunks=3, **here | changed)
    assert len(saved()) == len(before) + len(trace.chunks)
    assert torch.equal(latents, sample(autosave=False, chunks=3, **here | changed)[0])
    assert "Starts anew: " in caplog.text
    assert "Relax Forcing Resume can still go on" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"no tensors"])
def test_without_its_inputs_a_rollout_goes_on_with_equal_ones_alone(output, content):
    interrupted()
    (inputs,) = output.glob("relax_forcing/*/inputs")
    inputs.unlink() if content is None else inputs.write_bytes(content)
    sample(chunks=3, positive=off_by(0.001, POSITIVE))
    assert len(saved()) == 5
    sample(chunks=3)
    assert len(saved()) == 6


# --- what is said ---------------------------------------------------------------------------------


def said(caplog, **settings):
    """What autosave says of a run of 3 chunks."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    sample(**{"chunks": 3} | settings)
    return [r.getMessage() for r in caplog.records if r.name.endswith("autosave")]


def test_a_rollout_that_has_little_to_do_with_a_video_is_not_mentioned(output, caplog):
    interrupted()
    assert said(caplog, positive=OTHER, seed=8, prefix=prefix(3)) == []
    assert said(caplog, positive=OTHER, seed=9) == []


def test_going_on_by_resume_is_no_new_start(output, caplog):
    interrupted()
    (label,) = options()
    resumed = {"samples": resume(label)}
    assert said(caplog, positive=OTHER, prefix=resumed) == []
    (text,) = said(caplog, prefix=resumed)
    name = label.partition("  ")[0]
    assert text == f"Continues from the first 6 frames of {name}, its prefix."


def test_a_longer_video_costs_the_difference_and_says_so(output, caplog):
    sample(chunks=3)
    (text,) = said(caplog, chunks=4)
    assert re.fullmatch(r"3 of 4 chunks are there already \(.+\): only the rest is made\.", text)


@pytest.mark.parametrize("nan", [False, True])
def test_a_damaged_chunk_is_named_and_made_again(output, caplog, nan):
    latents, _ = sample(chunks=3)
    damaged = Path(sorted(saved())[1])
    if nan:
        chunk = SavedChunk.read(damaged)
        chunk.latents[0, 3, 1, 2, 2] = torch.nan
        chunk.write(damaged.parent)
        damaged.unlink()
    else:
        damaged.write_bytes(b"")
    (text,) = said(caplog)
    assert text.startswith("Continues after 1 of 3 saved chunks (")
    assert text.endswith(f"; chunk 2 of {damaged.parent.name} is damaged or in use elsewhere.")
    assert torch.equal(sample(chunks=3)[0], latents)


def test_chunks_that_go_while_it_runs_are_not_called_safe(output, monkeypatch):
    kind = tiny.part("saved.chunk").SavedChunk
    write = kind.write

    def lose(chunk, folder):
        write(chunk, folder)
        if chunk.trace.index == 1:
            shutil.rmtree(folder)

    monkeypatch.setattr(kind, "write", lose)
    words = "Of the 2 before it none are there any more: .+ and queue again, or turn autosave off"
    with pytest.raises(OSError, match=words):
        sample(chunks=3)


# --- rollouts of version 0.1 ----------------------------------------------------------------------


@pytest.fixture
def rollout_of_0_1(output):
    """3 of 4 chunks that version 0.1 made of the small model with the settings of `crash_run`."""
    (folder,) = (ROOT / "tests" / "host" / "data" / "rollout_0.1").iterdir()
    shutil.copytree(folder, output / "relax_forcing" / folder.name)
    return folder.name


def test_a_rollout_of_0_1_is_listed_and_resume_goes_on_with_it(rollout_of_0_1):
    (label,) = options()
    assert label.startswith(rollout_of_0_1)
    resumed = resume(label)
    assert resumed.shape == (1, 16, 9, 4, 6)
    latents, _ = sample(chunks=4, prefix={"samples": resumed})
    assert torch.equal(latents[:, :, :9], resumed)
    assert torch.isfinite(latents).all()


def test_a_rollout_of_0_1_is_not_found_by_itself_and_resume_is_named(rollout_of_0_1, caplog):
    before = saved()
    (text,) = said(caplog, chunks=4)
    assert text == (
        f"{rollout_of_0_1} was saved by another version, which this one does not find by itself: "
        "to go on with it, use Relax Forcing Resume."
    )
    assert before.items() <= saved().items()
    assert said(caplog, chunks=4, seed=8, positive=OTHER) == []


# --- Relax Forcing Resume -------------------------------------------------------------------------


def options():
    schema = tiny.pack()["RelaxForcingResume"].INPUT_TYPES()
    return schema["required"]["rollout"][1]["options"]


def resume(rollout):
    cls = tiny.pack()["RelaxForcingResume"]
    assert cls.validate_inputs(rollout) is True
    return tiny.node("RelaxForcingResume", rollout=rollout)[0]["samples"]


def test_resume_gives_a_film_with_its_cuts(output):
    sample(chunks=4)
    (old,) = output.glob("relax_forcing/*")
    (new := old.with_name("z film")).mkdir()
    for path, scene in zip(sorted(saved()), (0, 1, 1, 0), strict=True):
        made = SavedChunk.read(Path(path))
        dataclasses.replace(made, trace=dataclasses.replace(made.trace, scene=scene)).write(new)
    film, plain = (tiny.node("RelaxForcingResume", rollout=label)[0] for label in options())
    assert torch.equal(film["samples"], plain["samples"])
    assert film["relax_forcing_pieces"] == ((0, 3), (1, 6), (0, 3))
    assert plain.keys() == {"samples", "relax_forcing_take"}


def test_resume_lists_what_is_saved_and_gives_it_as_a_prefix(output):
    latents, _ = whole("plain")
    with accident(5, interrupt), pytest.raises(InterruptProcessingException):
        sample()
    (label,) = options()
    assert label.endswith("  48x32  5 of 12 chunks")
    assert "  3.6 of 8.8 s  " in label
    resumed = resume(label)
    assert torch.equal(resumed, latents[:, :, :15])
    assert torch.equal(sample(prefix={"samples": resumed})[0], latents)
    assert len(options()) == 2


def test_a_chosen_rollout_stays_valid_when_it_grows_and_the_host_reads_it_again(output):
    cls = tiny.pack()["RelaxForcingResume"]
    with accident(2, interrupt), pytest.raises(InterruptProcessingException):
        sample()
    (label,) = options()
    before = cls.fingerprint_inputs(label)
    assert cls.fingerprint_inputs(label) == before
    latents, _ = sample()
    assert label.endswith("  1.3 of 8.8 s  48x32  2 of 12 chunks")
    assert options() == [label.replace("1.3 of ", "").replace("2 of", "all")]
    assert cls.fingerprint_inputs(label) != before
    assert torch.equal(resume(label), latents)


def test_resume_loads_and_says_so_where_nothing_is_saved(output):
    (label,) = options()
    assert label == "nothing is saved yet"
    with pytest.raises(ValueError, match="^No rollout is saved in"):
        tiny.pack()["RelaxForcingResume"].validate_inputs(label)


def test_resume_refuses_a_path(output, tmp_path):
    sample(chunks=1)
    for name in ("../relax_forcing", str(tmp_path), "..", ""):
        with pytest.raises(ValueError, match="none of that name is saved"):
            tiny.pack()["RelaxForcingResume"].validate_inputs(name)
        with pytest.raises(ValueError, match="none of that name is saved"):
            tiny.node("RelaxForcingResume", rollout=name)


@pytest.mark.parametrize("disabled", [False, True])
def test_resume_closes_what_a_kill_has_left_of_the_video(output, disabled, monkeypatch):
    """The fragments of a writer whose process has died, named by its rollout, with its graph."""
    with accident(2, interrupt), pytest.raises(InterruptProcessingException):
        crash_run.stream(output)
    (left,) = output.rglob("*.partial.mp4")
    told = {"prompt": "first words"}
    writer = VideoWriter(output / "killed.mp4", fps=16, width=48, height=32, metadata=told)
    for _ in range(2):
        writer.append(torch.zeros(3, 32, 48, 3, dtype=torch.uint8))
    writer._file.close()
    writer.partial.replace(left)
    (rollout,) = (output / "relax_forcing").iterdir()
    write_graph(rollout, {"prompt": "last words", "workflow": {"nodes": []}})
    monkeypatch.setattr(args, "disable_metadata", disabled)
    resume(options()[0])
    assert b"moof" not in left.read_bytes()
    assert len(crash_run.pictures(left)) == 6
    with av.open(str(left)) as container:
        tags = {tag: json.loads(container.metadata[tag]) for tag in told}
        assert tags == (told if disabled else {"prompt": "last words"})
        assert ("workflow" in container.metadata) != disabled
