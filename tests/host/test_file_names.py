"""Names of videos: filled in, refused before anything is sampled; files that are gone, or held."""

import asyncio
import copy
import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace

import execution
import folder_paths
import nodes
import pytest
import tiny
import tiny_vae
import torch
from comfy_api.latest import InputImpl
from comfy_api.latest._io import Hidden, HiddenHolder
from comfy_extras.nodes_video import GetVideoComponents, SaveVideo
from server import PromptServer

from relax_memory import disk
from relax_memory.host.film import naming, output

BROWSER = "a browser"  # hosts up to 0.26 show nothing of a cached node where none listens


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An output folder of the host that the test may fill."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


class Sampled:
    """A node of the old kind that gives a latent, counts how often, and may hand on a text."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {}, "optional": {"text": ("STRING", {})}})
    RETURN_TYPES = ("LATENT", "VAE", "STRING")
    FUNCTION = "give"
    calls = []

    def give(self, text=""):
        self.calls.append(text)
        return {"samples": tiny_vae.latents(2)}, tiny_vae.vae(), text


class SampledTwice(Sampled):
    """A node of several runs: what follows is executed once for each latent."""

    OUTPUT_IS_LIST = (True, False, False)

    def give(self, text=""):
        latents, *others = super().give(text)
        return [latents, latents], *others


class Host:
    """The host's own validation and executor, with its caches."""

    def __init__(self):
        self.told = []
        self.server = SimpleNamespace(
            client_id=None,
            last_node_id=None,
            send_sync=lambda *_: None,
            send_progress_text=lambda text, node_id, sid: self.told.append(text),
        )
        self.executor = execution.PromptExecutor(
            self.server, cache_args={"ram": 0, "ram_inactive": 0}
        )
        self.count = 0

    def refused(self, prompt):
        """What is said of the nodes that validation refuses."""
        valid, _, _, errors = asyncio.run(execution.validate_prompt("1", prompt, None))
        assert valid != bool(errors)
        return [e["details"] for node in errors.values() for e in node["errors"]]

    def run(self, prompt, outputs=("3",)):
        """Execute, and return what is shown by node, or raise RuntimeError with what was said."""
        self.count += 1
        self.executor.execute(prompt, str(self.count), {"client_id": BROWSER}, list(outputs))
        for event, data in self.executor.status_messages:
            if event == "execution_error":
                raise RuntimeError(data["exception_message"])
        return {i: o["images"] for i, o in self.executor.history_result["outputs"].items()}


@pytest.fixture
def host(monkeypatch):
    mapping = tiny.pack() | {"Sampled": Sampled, "SampledTwice": SampledTwice}
    mapping["SaveVideo"] = SaveVideo
    for name, node in mapping.items():
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, node)
    monkeypatch.setattr(Sampled, "calls", [])
    host = Host()
    monkeypatch.setattr(PromptServer, "instance", host.server, raising=False)
    return host


def decode(prefix):
    """A graph that decodes; each call has dictionaries of its own."""
    inputs = {"samples": ["1", 0], "vae": ["2", 1], "fps": 16.0, "filename_prefix": prefix}
    return {
        "1": {"class_type": "Sampled", "inputs": {}},
        "2": {"class_type": "Sampled", "inputs": {"text": prefix if type(prefix) is str else "x"}},
        "3": {"class_type": "RelaxForcingDecode", "inputs": inputs},
    }


# --- a name that cannot be used -------------------------------------------------------------------

UNUSABLE = {
    "../out": "leads out of the output folder",
    "/etc/x": "leads out of the output folder",
    "a\nb": "use printable characters only",
    "n" * 240: "shorter name",
    "f" * 300 + "/x": "shorter name",
    "file/x": "file is a file",
    "link/x": "link is a link to",
    "deep/link/er/x": "link is a link to",
}


@pytest.fixture
def obstacles(folder, tmp_path):
    (folder / "file").touch()
    (folder / "deep").mkdir()
    (tmp_path / "else where").mkdir()
    for link in (folder / "link", folder / "deep" / "link"):
        link.symlink_to(tmp_path / "else where")
    return tmp_path / "else where"


@pytest.mark.parametrize("prefix", UNUSABLE)
def test_a_name_that_cannot_be_used_is_refused_before_anything_runs(
    host, folder, obstacles, prefix
):
    before = sorted(folder.rglob("*"))
    (said,) = host.refused(decode(prefix))
    assert UNUSABLE[prefix] in said
    assert "filename_prefix is " in said
    with pytest.raises(ValueError, match="filename_prefix is ") as refused:
        tiny.pack()["RelaxForcingStream"].validate_inputs(filename_prefix=prefix)
    assert said == str(refused.value)
    assert sorted(folder.rglob("*")) == before
    assert not Sampled.calls


@pytest.mark.parametrize("prefix", ["../out", "n" * 240, "file/x", "link/x"])
def test_one_that_another_node_gives_is_refused_before_sampling(host, folder, obstacles, prefix):
    prompt = decode(["4", 2])
    prompt["4"] = {"class_type": "Sampled", "inputs": {"text": prefix}}
    assert host.refused(prompt) == []  # not known yet
    with pytest.raises(RuntimeError, match=UNUSABLE[prefix]):
        host.run(prompt)
    assert "" not in Sampled.calls  # the node that gives the latent
    assert files(folder) == ["file"]


def test_a_link_is_named_with_where_it_leads(host, obstacles):
    (said,) = host.refused(decode("deep/link/er/x"))
    assert f"deep{os.sep}link is a link to {obstacles}, outside of the output folder" in said
    assert "--output-directory" in said


def test_a_link_that_stays_inside_is_followed(folder):
    (folder / "there").mkdir()
    (folder / "link").symlink_to(folder / "there")
    output.check_known_name("link/x", None)


def test_a_folder_that_cannot_be_written_to_is_refused_with_what_helps(host, folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    (said,) = host.refused(decode("new/x"))
    assert f"{folder} is read-only" in said
    assert "allow writing in" in said
    assert "make room" not in said


def test_a_character_that_the_system_gives_another_meaning_is_refused(monkeypatch):
    monkeypatch.setattr(output, "UNUSABLE", '<>:"|?*')
    with pytest.raises(ValueError, match="allows no : in names"):
        output.check_known_name("take 1: the cat", None)


@pytest.mark.parametrize(
    "prefix", ["video/x", "", "a.b", "%width%x%height%", "new/folder/%year%/ä"]
)
def test_any_other_name_is_taken_and_nothing_created(host, folder, prefix):
    assert host.refused(decode(prefix)) == []
    assert list(folder.iterdir()) == []
    assert host.run(decode(prefix))
    assert len(files(folder)) == 1


# --- what stands between percent signs ------------------------------------------------------------

PROMPT = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 7, "cfg": 4.0, "model": ["2", 0]}},
    "2": {"class_type": "CLIP", "inputs": {"text": 'a/b: "c"'}, "_meta": {"title": "My Prompt"}},
    "3": {"class_type": "PrimitiveInt", "inputs": {"value": 93}},
    "4": {"class_type": "Sampler", "inputs": {"length": ["3", 0], "autosave": True, "eta": 0.5}},
    "5:6": {"class_type": "KSampler", "inputs": {"steps": 20}, "_meta": {"title": "Inner"}},
}
WORKFLOW = {
    "nodes": [
        {"id": 1, "type": "KSampler", "properties": {"Node name for S&R": "First"}},
        {"id": 9, "type": "PrimitiveNode", "title": "Take", "widgets_values": [3, "fixed"]},
    ],
    "definitions": {"subgraphs": [{"nodes": [{"id": 6, "properties": {}}]}]},
}
FILLED = {
    "%KSampler.seed%": "7",
    "%KSampler.cfg%": "4",
    "%My Prompt.text%": "a_b_ _c_",
    "%Sampler.length%": "93",
    "%Sampler.autosave%": "true",
    "%Sampler.eta%": "0.5",
    "%Inner.steps%": "20",
    "a%KSampler.seed%b/%PrimitiveInt.value%": "a7b/93",
    "%Nobody.seed%": "%Nobody.seed%",
    "%KSampler.nothing%": "%KSampler.nothing%",
    "%KSampler.model%": "%KSampler.model%",
    "%year%/%width%": "%year%/%width%",  # the host's own
    "100%": "100%",
    "%%": "%%",
    "%date%": "%date%",
}


def hidden(**values):
    return HiddenHolder.from_dict({Hidden[name]: value for name, value in values.items()})


@pytest.mark.parametrize("name", FILLED)
def test_values_of_other_nodes_are_filled_in(name):
    assert naming.fill_in(name, hidden(prompt=PROMPT)) == FILLED[name]


def test_a_node_may_be_meant_by_the_name_that_was_given_for_this_purpose():
    told = hidden(prompt=PROMPT, extra_pnginfo={"workflow": WORKFLOW})
    assert naming.fill_in("%First.seed% %Inner.steps% %Take.value%", told) == "7 20 3"
    assert naming.fill_in("%First.seed%", hidden(prompt=PROMPT)) == "%First.seed%"


DATES = {
    "%date:yyyy-MM-dd%": "2026-03-09",
    "%date:yy%": "26",
    "%date:d.M.yyyy%": "9.3.2026",
    "%date:hhmmss%": "070504",
    "%date:h_m_s%": "7_5_4",
    "%date:yyyy/MM%/x": "2026/03/x",
    "a %date:MM% b %date:dd%": "a 03 b 09",
}


@pytest.mark.parametrize("name", DATES)
def test_dates_are_filled_in(monkeypatch, name):
    class Clock(naming.datetime):
        now = classmethod(lambda cls: cls(2026, 3, 9, 7, 5, 4))

    monkeypatch.setattr(naming, "datetime", Clock)
    assert naming.fill_in(name, None) == DATES[name]


def test_the_nodes_write_under_the_filled_in_name(host, folder):
    prompt = decode("%date:yyyy%/%RelaxForcingDecode.fps% fps %width%")
    host.run(prompt)
    (name,) = files(folder)
    assert re.fullmatch(r"20\d\d/16 fps 32_00001_\.mp4", name)
    inputs = {"model": tiny.remembering(), "positive": tiny.conditioning(1), "vae": tiny_vae.vae()}
    sizes = {"width": 32, "height": 32, "length": 9, "seed": 7, "steps": 1, "cfg": 1.0}
    sizes |= {"frames_per_chunk": 3, "batch_size": 1, "autosave": False, "fps": 16.0}
    tiny.node("RelaxForcingStream", filename_prefix="%date:yyyy% live", **inputs, **sizes)
    assert any(re.fullmatch(r"20\d\d live_00001_\.mp4", name) for name in files(folder))


# --- a file that is gone --------------------------------------------------------------------------


def asked_of(video):
    """Everything that a later node may ask of a video."""
    return {
        "components": video.get_components,
        "source": video.get_stream_source,
        "size": video.get_dimensions,
        "duration": video.get_duration,
        "frames": video.get_frame_count,
        "save": lambda: video.save_to("/nowhere/x.mp4"),
        "trim": lambda: video.as_trimmed(0.1, 0.1),
        "node": lambda: GetVideoComponents.execute(video),
    }


def test_a_video_whose_file_is_gone_says_so(folder):
    inputs = {"samples": {"samples": tiny_vae.latents(2)}, "vae": tiny_vae.vae(), "fps": 16.0}
    ((video,),) = tiny.node("RelaxForcingDecode", **inputs, filename_prefix="x")
    assert isinstance(video, InputImpl.VideoFromFile)
    trimmed = video.as_trimmed(0.0, 0.1)
    path = Path(video.get_stream_source())
    path.rename(folder / "moved.mp4")
    for one in (video, trimmed):
        for ask in asked_of(one).values():
            with pytest.raises(FileNotFoundError) as said:
                ask()
            assert str(said.value).startswith(f"The video {path} was moved or deleted")
            assert "queue again" in str(said.value)
    (folder / "moved.mp4").rename(path)
    assert video.get_frame_count() == 5


@pytest.mark.parametrize("lose", [os.unlink, lambda p: os.rename(p, f"{p}.mov")])
def test_an_unchanged_queue_makes_a_video_anew_whose_file_is_gone(host, folder, lose):
    shown = host.run(decode("x"))
    for _ in range(2):
        assert host.run(decode("x")) == shown
        (file,) = shown["3"]
        lose(folder / file["filename"])
        shown = host.run(decode("x"))
        assert shown["3"][0]["filename"] in files(folder)
    before = files(folder)
    assert host.run(decode("x")) == shown
    assert files(folder) == before
    assert sorted(Sampled.calls) == ["", "x"]  # nothing was sampled again


@pytest.mark.parametrize("lost", [0, 1])
def test_each_video_of_a_list_is_made_anew_once_its_file_is_gone(host, folder, lost):
    prompt = decode("x")
    prompt["1"]["class_type"] = "SampledTwice"
    made = host.run(copy.deepcopy(prompt))["3"]
    (folder / made[lost]["filename"]).unlink()
    again = host.run(copy.deepcopy(prompt))["3"]
    assert len(again) == 2 and {file["filename"] for file in again} <= {*files(folder)}
    assert host.run(copy.deepcopy(prompt))["3"] == again


def test_what_follows_gets_the_new_file(host, folder):
    save = {"video": ["3", 0], "filename_prefix": "y", "format": "auto", "codec": "auto"}
    for _ in range(2):
        prompt = decode("x") | {"4": {"class_type": "SaveVideo", "inputs": dict(save)}}
        host.run(prompt, ["3", "4"])
        assert files(folder) == ["x_00001_.mp4", "y_00001_.mp4"]
        for path in folder.iterdir():
            path.unlink()


# --- a file that is held --------------------------------------------------------------------------


def test_a_finished_video_whose_name_is_refused_is_given_under_its_partial_one(
    host, folder, monkeypatch
):
    replace = os.replace

    def refuse(source, target):
        if re.fullmatch(r".*x_\d+_\.mp4", str(target)):
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        replace(source, target)

    monkeypatch.setattr(disk, "PAUSES_SECONDS", (0.01,))
    monkeypatch.setattr(os, "replace", refuse)
    (shown,) = host.run(decode("x"))["3"]
    assert shown["filename"] == "x_00001_.partial.mp4"
    assert files(folder) == ["x_00001_.partial.mp4"]
    assert any("keeps its name x_00001_.partial.mp4" in text for text in host.told)


def test_the_next_video_of_that_name_closes_what_a_kill_has_left(folder):
    """And leaves alone what has another name, or is being written."""

    def make(name):
        return output.open_video(name, fps=16, width=32, height=32, metadata=None)

    writers = [make(name) for name in ("x", "x", "xx")]
    for writer in writers:
        for _ in range(2):
            writer.append(torch.zeros(3, 32, 32, 3, dtype=torch.uint8))
    for killed in (writers[0], writers[2]):
        killed._file.close()
    fragments = [writer.partial.read_bytes().count(b"moof") for writer in writers]
    assert fragments == [2, 2, 2]
    make("x").abandon()
    fragments = [writer.partial.read_bytes().count(b"moof") for writer in writers]
    assert fragments == [0, 2, 2]
    writers[1].finish()
    assert files(folder) == ["x_00001_.partial.mp4", "x_00002_.mp4", "xx_00001_.partial.mp4"]
