"""Queues a film twice in a running ComfyUI, its shots with `keep` and with `recache`.

For whoever has real weights: which of the two follows changed words better is read from its videos,
see `docs/keep-or-recache.md`. Stamps that say how they begin stay as they are.
`python lab/both_ways.py URL WORKFLOW OUTPUT_FOLDER`
"""

import asyncio
import copy
import json
import sys
from pathlib import Path

from play import play

WAYS = ("keep", "recache")


def begins(workflow: dict, transition: str) -> dict:
    """The same workflow (API format) with shots that begin so, and files that say it."""
    workflow = copy.deepcopy(workflow)
    schedules = 0
    for node in workflow.values():
        inputs = node["inputs"]
        if node["class_type"] == "RelaxForcingPromptSchedule":
            inputs["transition"] = transition
            schedules += 1
        if isinstance(inputs.get("filename_prefix"), str):
            inputs["filename_prefix"] += f"_{transition}"
    if not schedules:
        sys.exit("This workflow has no Relax Forcing Prompt Schedule: nothing would differ.")
    return workflow


async def main(url: str, path: str, folder: str) -> None:
    workflow = json.loads(Path(path).read_text("utf-8"))
    for way in WAYS:
        print(f"{way}:", flush=True)
        await play(url, begins(workflow, way), Path(folder))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
