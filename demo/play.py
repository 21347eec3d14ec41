"""Queues one API-format workflow in a running ComfyUI, follows it, and says where the results lie.

Knows the host's HTTP and websocket interface only. `python demo/play.py URL WORKFLOW OUTPUT_FOLDER`
"""

import asyncio
import json
import struct
import sys
import time
import uuid
from pathlib import Path

import aiohttp

TEXT_EVENT = 3  # binary websocket message: event, length of the node id, node id, text
SECONDS_BETWEEN_LINES = 10  # where the output is not a terminal


class Display:
    """The newest line of progress: one moving line in a terminal, now and then a line elsewhere."""

    def __init__(self) -> None:
        self._due = 0.0

    def show(self, line: str) -> None:
        if sys.stdout.isatty():
            print(f"\r\033[K{line:.100}", end="", flush=True)
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + SECONDS_BETWEEN_LINES
            print(line, flush=True)

    def clear(self) -> None:
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)


async def play(url: str, workflow: dict, output: Path) -> None:
    client = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession(url) as session,
        session.ws_connect("/ws", params={"clientId": client}, max_msg_size=0) as socket,
    ):
        job = await queue(session, workflow, client)
        display = Display()
        async for message in socket:
            line = progress(message, workflow, job)
            if line is None:
                break
            if line:
                display.show(line)
        else:
            sys.exit("ComfyUI stopped before the workflow was finished.")
        display.clear()
        async with session.get(f"/history/{job}") as reply:
            outputs = (await reply.json())[job]["outputs"]
    for node, result in outputs.items():
        for file in result.get("images", []):
            if file["type"] == "output":
                print(f"{title(workflow, node)}: {output / file['subfolder'] / file['filename']}")


async def queue(session: aiohttp.ClientSession, workflow: dict, client: str) -> str:
    request = {"prompt": workflow, "client_id": client}
    async with session.post("/prompt", json=request) as reply:
        answer = await reply.json()
    if "prompt_id" not in answer:
        sys.exit(f"ComfyUI refused the workflow: {json.dumps(answer, indent=2)}")
    return answer["prompt_id"]


def progress(message: aiohttp.WSMessage, workflow: dict, job: str) -> str | None:
    """A line to show, an empty one for what needs no line, None when the job is done."""
    if message.type == aiohttp.WSMsgType.BINARY:
        return progress_text(message.data, workflow)
    event = json.loads(message.data)
    data = event["data"]
    if data.get("prompt_id") != job:
        return ""
    if event["type"] == "execution_interrupted":
        sys.exit("The workflow was interrupted.")
    if event["type"] == "execution_error":
        sys.exit(f"{title(workflow, data['node_id'])} failed: {data['exception_message']}")
    if event["type"] != "executing":
        return ""
    return title(workflow, data["node"]) if data["node"] else None


def progress_text(data: bytes, workflow: dict) -> str:
    event, length = struct.unpack(">II", data[:8])
    if event != TEXT_EVENT:
        return ""
    node, text = data[8 : 8 + length].decode(), data[8 + length :].decode()
    return f"{title(workflow, node)}: {text}"


def title(workflow: dict, node: str) -> str:
    return workflow[node]["_meta"]["title"]


if __name__ == "__main__":
    address, path, folder = sys.argv[1:]
    try:
        asyncio.run(play(address, json.loads(Path(path).read_text("utf-8")), Path(folder)))
    except KeyboardInterrupt:
        sys.exit(130)
    except aiohttp.ClientError as error:
        sys.exit(f"ComfyUI at {address} does not answer: {error}")
