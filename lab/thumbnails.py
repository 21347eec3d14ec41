"""Pictures for the template browser: what each shared workflow makes, on the models of the demo.

The graph stays as it is; where it loads real models the demo's come in their place, with their size
and a prompt of their language. Three frames of each video, of the beginning, the middle and the
end, are laid in a row, which is still readable where the browser shows them 218 pixels wide; of a
film of four shots, one frame of each.
"""

import copy
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import conftest  # noqa: F401  (the host before the repository on the path)
import tiny
from conftest import ROOT

import av  # isort: skip
import execution
import folder_paths
import nodes as host_nodes
from PIL import Image

WORKFLOWS = ROOT / "workflows"
SCHEDULE = "RelaxForcingPromptSchedule"
LOADERS = {"RelaxForcingLoadModel": 0, "UNETLoader": 0, "CLIPLoader": 1, "VAELoader": 2}
SIDE, SMALL, GAP = 340, 128, 4
PLACES, SHOTS = (0, 1 / 2, 1), (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # of a video, and of a film
ORDER = (
    "text",
    "compare",
    "demo",
    "long",
    "extend",
    "image",
    "resume",
    "story",
    "there",
    "two",
    "eight",
)  # the first is gone on from
RESUMED = "a purple circle"
VIDEO = ROOT / "lab/my_video.mp4"
SIZE = {"width": 64, "height": 64}
LENGTH, LONGER, FILM = 81, 121, 321
STORY = """[0s] a red circle bouncing over a striped green field, fast
[5s] a blue circle bouncing over a striped green field, fast
[10s #] a yellow square circling over a dotted blue field, slow
[15s blend 2s] a purple square circling over a dotted blue field, slow"""
THERE = "Scene meadow: a red circle bouncing over a striped green field, fast | "
THERE += "Scene night: a white triangle circling over a dotted black field, slow"
PROMPTS = {  # by the first words of a name after "Relax Forcing"
    "compare": "a white triangle circling over a dotted blue field",
    "demo story": STORY,
    "demo": "a red circle bouncing over a striped green field, fast",
    "eight": "a red circle bouncing over a striped green field, fast",
    "extend": "a blue triangle bouncing over a dotted green field",
    "image": "a blue triangle bouncing over a dotted green field",
    "long": "a purple circle and a yellow triangle over a plain grey field",
    "resume": "a purple circle and a yellow triangle over a plain grey field",
    "story": STORY,
    "text to long video - causal": "a yellow square bouncing over a striped blue field",
    "text to long video - fast": "a red triangle circling over a plain green field, fast",
    "text to long video - custom": "a blue triangle bouncing over a dotted green field",
    "text to long video - self": "a white circle and a red square over a checkered blue field",
    "there": f"{THERE} | {THERE}",
    "two": (
        "a purple circle bouncing over a plain grey field",
        "a yellow triangle bouncing over a plain grey field",
    ),
}
TRANSITIONS = {  # by the word of the help page: in which film, and the frames around it
    "keep": ("demo story", (72, 80, 82, 86, 95, 103)),
    "blend": ("demo story", (236, 250, 256, 262, 266, 280)),
    "cut": ("demo story", (148, 156, 164, 165, 173, 181)),
    "return": ("there", (72, 80, 81, 164, 165, 173)),
}


class Host:
    """The host's executor with nobody who listens."""

    def __init__(self) -> None:
        server = SimpleNamespace(client_id=None, last_node_id=None, send_sync=lambda *_: None)
        server.send_progress_text = lambda *_: None
        self._executor = execution.PromptExecutor(server, cache_args={"ram": 0, "ram_inactive": 0})

    def files(self, prompt: dict) -> list[Path]:
        """What a workflow shows when it is finished, by node."""
        outputs = [
            key
            for key, node in prompt.items()
            if getattr(host_nodes.NODE_CLASS_MAPPINGS[node["class_type"]], "OUTPUT_NODE", False)
        ]
        self._executor.execute(prompt, "thumbnails", {}, outputs)
        if not self._executor.success:
            raise RuntimeError(self._executor.status_messages[-1][1]["exception_message"])
        shown = self._executor.history_result["outputs"].values()
        files = [file for ui in shown for file in ui.get("images", ())]
        return [
            Path(folder_paths.get_directory_by_type(f["type"]), f["subfolder"], f["filename"])
            for f in files
        ]


def is_film(workflow: dict) -> bool:
    return any(node["class_type"] == SCHEDULE for node in workflow.values())


def on_demo_models(workflow: dict, prompts: str | tuple[str, ...], rollout: str) -> dict:
    """The same graph with the demo's models, size and language."""
    workflow = copy.deepcopy(workflow)
    said = iter([prompts] if isinstance(prompts, str) else prompts)
    film = is_film(workflow)
    swapped = {key: LOADERS.get(node["class_type"]) for key, node in workflow.items()}
    for node in workflow.values():
        inputs = node["inputs"]
        inputs.update({name: value for name, value in SIZE.items() if name in inputs})
        for name, value in inputs.items():
            if isinstance(value, list) and swapped.get(value[0]) is not None:
                inputs[name] = ["demo", swapped[value[0]]]
        if isinstance(inputs.get("length"), int):
            inputs["length"] = FILM if film else LONGER if "prefix" in inputs else LENGTH
        if node.get("_meta", {}).get("title") == "Length":
            inputs["value"] = LENGTH
        if "rollout" in inputs:
            inputs["rollout"] = rollout
        if node["class_type"] in (SCHEDULE, "CLIPTextEncode") and isinstance(inputs["text"], str):
            inputs["text"] = next(said)
    kept = {key: node for key, node in workflow.items() if swapped[key] is None}
    return kept | {"demo": {"class_type": "RelaxForcingDemoModels", "inputs": {}}}


def picture(videos: list[list[Image.Image]], places: Sequence[float]) -> Image.Image:
    """A row for each video of the same length: its frames at `places`, from 0 to 1."""
    rows = [strip([frames[int(p * (len(frames) - 1))] for p in places]) for frames in videos]
    whole = Image.new("RGB", (rows[0].width, len(rows) * (SIDE + GAP) - GAP), "white")
    for index, row in enumerate(rows):
        whole.paste(row, (0, index * (SIDE + GAP)))
    return whole


def strip(frames: Sequence[Image.Image], side: int = SIDE) -> Image.Image:
    """Frames in a row."""
    row = Image.new("RGB", (len(frames) * (side + GAP) - GAP, side), "white")
    for index, frame in enumerate(frames):
        row.paste(frame.resize((side, side), Image.Resampling.LANCZOS), (index * (side + GAP), 0))
    return row


def frames_of(video: Path) -> list[Image.Image]:
    with av.open(str(video)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def show_transitions(name: str, frames: list[Image.Image]) -> None:
    """Pictures for the help pages of what is said in a film's text."""
    for word, (film, moments) in TRANSITIONS.items():
        if name.startswith(film):
            row = strip([frames[moment] for moment in moments], SMALL)
            row.save(ROOT / f"web/docs/film-{word}.webp", quality=90)


def example_inputs(video: Path, folder: Path) -> None:
    """The picture and the short video that templates ask for; `run.py serve` has the video too."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(video)) as container:
        next(container.decode(video=0)).to_image().save(folder / "example.png")
    shutil.copy(video, folder / VIDEO.name)
    shutil.copy(video, VIDEO)


def in_order(path: Path) -> int:
    """Workflows that go on from something come after what makes it."""
    words = path.stem.removeprefix("Relax Forcing ").split()
    return ORDER.index(words[0])


def prepare() -> None:
    """Load the pack and the host's own nodes."""
    tiny.pack()
    tiny.asyncio.run(host_nodes.init_builtin_extra_nodes())


def main() -> None:
    prepare()
    host = Host()
    with tempfile.TemporaryDirectory() as place:
        folder_paths.set_output_directory(place)
        folder_paths.set_input_directory(str(Path(place, "input")))
        for path in sorted(sorted(WORKFLOWS.glob("api/*.json")), key=in_order):
            name = path.stem.removeprefix("Relax Forcing ")
            prompts = next(text for start, text in PROMPTS.items() if name.startswith(start))
            saved = host_nodes.NODE_CLASS_MAPPINGS["RelaxForcingResume"].INPUT_TYPES()
            labels = saved["required"]["rollout"][1]["options"]
            rollout = next((label for label in labels if RESUMED in label), "")
            workflow = json.loads(path.read_text("utf-8"))
            shown = host.files(on_demo_models(workflow, prompts, rollout))
            videos = [file for file in shown if file.suffix == ".mp4"]
            if not videos:  # a contact sheet is a picture already
                sheet = Image.open(shown[0]).convert("RGB").reduce(2)
                sheet.save(WORKFLOWS / f"{path.stem}.jpg", quality=88)
                continue
            shown = videos if name.startswith(("compare", "two")) else videos[:1]
            places = (
                SHOTS if any(n["class_type"] == SCHEDULE for n in workflow.values()) else PLACES
            )
            films = [frames_of(video) for video in shown]
            show_transitions(name, films[0])
            picture(films, places).save(WORKFLOWS / f"{path.stem}.jpg", quality=88)
            if not Path(place, "input").exists():  # of "text to long video - custom sampler"
                example_inputs(videos[0], Path(place, "input"))
            print(path.stem, [video.name for video in videos], flush=True)


if __name__ == "__main__":
    main()
