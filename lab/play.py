"""Queues one API-format workflow in a running ComfyUI, follows it, and says where the results lie.

Knows the host's HTTP and websocket interface only. `python lab/play.py URL WORKFLOW OUTPUT_FOLDER`
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
SECONDS_BETWEEN_LINES = 5  # where the output is not a terminal


class Display:
    """The newest line of progress: one moving line in a terminal, now and then a line elsewhere."""

    def __init__(self) -> None:
        self._node = ""
        self._due = 0.0

    def show(self, node: str, text: str) -> None:
        """`node` is the title of the working node, `text` what it says of itself, if anything."""
        line = f"{node}: {text}" if text else node
        now = time.monotonic()
        if sys.stdout.isatty():
            print(f"\r\033[K{line:.100}", end="", flush=True)
        elif node != self._node or (text and now >= self._due):
            self._node, self._due = node, now + SECONDS_BETWEEN_LINES * bool(text)
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
            node, text = progress(message, job)
            if node is None:
                break
            if node:
                display.show(title(workflow, node), text)
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


def progress(message: aiohttp.WSMessage, job: str) -> tuple[str | None, str]:
    """The working node's id and what it says of itself.

    The id is empty where a message tells nothing of interest, and None when the job is done.
    """
    if message.type == aiohttp.WSMsgType.BINARY:
        event, length = struct.unpack(">II", message.data[:8])
        said = message.data[8:]
        return (said[:length].decode(), said[length:].decode()) if event == TEXT_EVENT else ("", "")
    event = json.loads(message.data)
    data = event["data"]
    if data.get("prompt_id") != job:
        return "", ""
    if event["type"] == "execution_interrupted":
        sys.exit("The workflow was interrupted.")
    if event["type"] == "execution_error":
        sys.exit(f"{data['node_type']} failed: {data['exception_message']}")
    return (data["node"], "") if event["type"] == "executing" else ("", "")


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
