"""The real server of the host on a free port, with small models in folders of its own.

`small` is the one place that says how a shared workflow is changed to run on them.
"""

import asyncio
import copy
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import av
import safetensors.torch
import torch
from conftest import HOST, ROOT
from PIL import Image

SIZE = {"width": 48, "height": 32}
PICTURE = (80, 100)  # height, width of the user's picture and video
VIDEO_FRAMES, VIDEO_FPS = 23, 24  # the VAE leaves out 2 of them: 21 are 6 latent frames
SECONDS_TO_START = 600  # on a busy machine; a server that ends is noticed at once
TWO_CHUNKS = 8  # steps
PREVIEW = 1  # binary message: event, kind of picture, picture
PROGRESS_TEXT = 3  # binary message: event, length of the node id, node id, text
CHECKPOINTS = ("self_forcing_dmd.pt", "causal_forcing.pt", "framewise-2step.pt")
VAE, DATASET = "wan_2.1_vae.safetensors", "relax_forcing_small"


def small(workflow: dict, length: int, rollout: str = "") -> dict:
    """A workflow in a small size, with stored embeddings: no text encoder of Wan's width is small.

    Width, height and length change, every prompt becomes the one of the small dataset, times of
    shots move with the length and their words are read as the demo does, and the choice of a saved
    video becomes `rollout`. All other nodes and values stay, the names of the
    model files and of the user's picture and video among them.
    """
    workflow = copy.deepcopy(workflow)
    dataset = {"class_type": "LoadTrainingDataset", "inputs": {"folder_name": DATASET}}
    prompts = {key for key, node in workflow.items() if node["class_type"] == "CLIPTextEncode"}
    for node in workflow.values():
        inputs = node["inputs"]
        inputs.update({name: value for name, value in SIZE.items() if name in inputs})
        if isinstance(inputs.get("length"), int):
            shorter, inputs["length"] = length / inputs["length"], length
        if node.get("_meta", {}).get("title") == "Length":
            inputs["value"] = length
        if "rollout" in inputs:
            inputs["rollout"] = rollout
        for name, value in inputs.items():
            if isinstance(value, list) and value[0] in prompts:
                inputs[name] = ["prompt", 1]
    schedules = [n for n in workflow.values() if n["class_type"] == "RelaxForcingPromptSchedule"]
    for schedule in schedules:
        moved = re.sub(
            r"(?<=\[)\d+", lambda s: f"{int(s[0]) * shorter:.2f}", schedule["inputs"]["text"]
        )
        schedule["inputs"] |= {"clip": ["words", 1], "text": moved}
    if schedules:
        workflow["words"] = {"class_type": "RelaxForcingDemoModels", "inputs": {}}
    if prompts:
        workflow["prompt"] = dataset
    removed = {"CLIPTextEncode", "CLIPLoader"}
    return {key: node for key, node in workflow.items() if node["class_type"] not in removed}


@dataclass
class Job:
    """What the server said of one queued workflow."""

    workflow: dict
    prompt_id: str = ""
    ending: str = ""
    progress: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # node: value, max
    texts: dict[str, list[str]] = field(default_factory=dict)
    previews: list[bytes] = field(default_factory=list)  # of all nodes
    shown: dict[str, list[dict]] = field(default_factory=dict)  # outputs as they came, node by node
    outputs: dict[str, dict] = field(default_factory=dict)
    directed: list[dict] = field(default_factory=list)  # new words, as the browser is told

    @property
    def sampled_steps(self) -> int:
        """Of all samplers; saved chunks that are decoded again have no steps."""
        return sum(", step " in text for texts in self.texts.values() for text in texts)

    def of(self, class_type: str, kind: str) -> list:
        """Progress, texts, outputs or `shown` of every node of a class, in workflow order."""
        found = getattr(self, kind)
        nodes = self.workflow.items()
        return [found.get(key) for key, node in nodes if node["class_type"] == class_type]


class Server:
    """A context: the server runs inside it and has ended after it, however it is left."""

    def __init__(self, folder: Path, *, metadata: bool = False) -> None:
        """`folder` gets the models, the pack and what the server writes, with `metadata` or not."""
        self.folder, self._metadata = folder, metadata
        self._log = folder / "server.log"

    def __enter__(self) -> "Server":
        write_models(self.folder)
        write_inputs(self.folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, str(HOST / "main.py"), "--cpu", "--port", str(port)]
        command += ["--base-directory", str(self.folder), "--database-url", "sqlite:///:memory:"]
        command += ["--disable-api-nodes", *([] if self._metadata else ["--disable-metadata"])]
        with open(self._log, "w") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}  # models this small gain none
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        try:
            asyncio.run(self._wait())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        return self._log.read_text("utf-8", errors="replace")

    def run(self, workflow: dict, *, interrupt: bool = False) -> Job:
        """Queue a workflow and follow it to its end; `interrupt` stops it in its third chunk."""
        return asyncio.run(self._follow(Job(workflow), interrupt))

    @contextmanager
    def running(self, workflow: dict) -> Iterator["Job"]:
        """Queue a workflow and follow it beside what is done here, which is over before its end.

        The job has no ending if the server is killed.
        """
        job = Job(workflow)

        def follow() -> None:
            with suppress(aiohttp.ClientError):
                asyncio.run(self._follow(job, False))

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield job
        finally:
            thread.join()

    def post(self, path: str, **request: Any) -> tuple[int, Any]:
        """Send JSON, or whatever aiohttp is told to; the status and what was answered."""

        async def post() -> tuple[int, Any]:
            async with (
                aiohttp.ClientSession(self.url) as session,
                session.post(path, **request) as reply,
            ):
                text = await reply.text()
                return reply.status, json.loads(text) if text.startswith("{") else text

        return asyncio.run(post())

    def saved_rollouts(self) -> list[str]:
        """What Relax Forcing Resume offers, newest first."""
        info = json.loads(self.fetch("/object_info/RelaxForcingResume"))
        return info["RelaxForcingResume"]["input"]["required"]["rollout"][1]["options"]

    def fetch(self, path: str, **parameters: str) -> bytes:
        async def get() -> bytes:
            async with (
                aiohttp.ClientSession(self.url) as session,
                session.get(path, params=parameters) as reply,
            ):
                assert reply.status == 200, await reply.text()
                return await reply.read()

        return asyncio.run(get())

    async def _wait(self) -> None:
        end = time.monotonic() + SECONDS_TO_START
        async with aiohttp.ClientSession(self.url) as session:
            while time.monotonic() < end and self._process.poll() is None:
                try:
                    async with session.get("/system_stats"):
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.2)
        raise RuntimeError(f"The server did not start: {self.log()}")

    async def _follow(self, job: Job, interrupt: bool) -> Job:
        client = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.ws_connect("/ws", params={"clientId": client}, max_msg_size=0) as messages,
        ):
            request = {"prompt": job.workflow, "client_id": client}
            async with session.post("/prompt", json=request) as reply:
                answer = await reply.json()
                assert reply.status == 200, answer
            job.prompt_id = answer["prompt_id"]
            async for message in messages:
                if message.type == aiohttp.WSMsgType.BINARY:
                    note_binary(job, message.data)
                elif note_event(job, json.loads(message.data)):
                    break
                if interrupt and job.sampled_steps > TWO_CHUNKS:
                    await session.post("/interrupt")
                    interrupt = False
            async with session.get(f"/history/{answer['prompt_id']}") as reply:
                job.outputs = (await reply.json())[answer["prompt_id"]]["outputs"]
        return job


def note_event(job: Job, event: dict) -> bool:
    """Whether the job has ended and is in the server's history, which follows the ending."""
    kind, data = event["type"], event["data"]
    if kind == "progress":
        job.progress.setdefault(data["node"], []).append((data["value"], data["max"]))
    if kind == "executed":
        job.shown.setdefault(data["node"], []).append(data["output"])
    if kind == "relax_forcing.directed":
        job.directed.append(data)
    if kind in ("execution_success", "execution_error", "execution_interrupted"):
        job.ending = data.get("exception_message") or kind.removeprefix("execution_")
    return kind == "executing" and data["node"] is None and bool(job.ending)


def note_binary(job: Job, data: bytes) -> None:
    event, size = struct.unpack(">II", data[:8])
    if event == PREVIEW:
        job.previews.append(data[8:])
    if event == PROGRESS_TEXT:
        node, text = data[8 : 8 + size].decode(), data[8 + size :].decode()
        job.texts.setdefault(node, []).append(text)


def write_models(folder: Path) -> None:
    """Small models under the names that the shared workflows have, and the pack."""
    script = ROOT / "tests" / "small_weights.py"
    environment = os.environ | {"PYTHONPATH": str(HOST)}
    subprocess.run([sys.executable, script, folder], env=environment, check=True)
    models = folder / "models"
    made = models / "diffusion_models" / f"{DATASET}.safetensors"
    weights = {f"model.{name}": value for name, value in safetensors.torch.load_file(made).items()}
    for name in CHECKPOINTS:
        torch.save({"generator_ema": weights}, models / "diffusion_models" / name)
    (models / "vae" / VAE).write_bytes((models / "vae" / f"{DATASET}_vae.safetensors").read_bytes())
    write_pack(folder / "custom_nodes" / "ComfyUI-RelaxForcing")


def write_pack(folder: Path) -> None:
    """The files of the pack that the registry hands out; all of them where git cannot tell."""
    try:
        names = listed("--exclude-standard") - listed("--ignored", "--exclude-from=.comfyignore")
    except (OSError, subprocess.CalledProcessError):
        folder.parent.mkdir()
        folder.symlink_to(ROOT, target_is_directory=True)
        return
    for name in names:
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)


def listed(*options: str) -> set[str]:
    """Files of this repository, by what git says of them."""
    command = ["git", "ls-files", "-z", "--cached", "--others", *options]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {name for name in names.split("\0") if name and (ROOT / name).is_file()}


def write_inputs(folder: Path) -> None:
    """A picture and a video under the names that the shared workflows have, of another size."""
    folder = folder / "input"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, VIDEO_FRAMES, 4, 6, generator=generator)
    size = (VIDEO_FRAMES, *PICTURE)
    images = torch.nn.functional.interpolate(coarse, size=size, mode="trilinear")[0]
    pictures = images.movedim(0, -1).mul(255).byte().numpy()
    Image.fromarray(pictures[0]).save(folder / "example.png")
    with av.open(str(folder / "my_video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=VIDEO_FPS)
        stream.height, stream.width = PICTURE
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
