"""The host's front end in a browser, as far as the tests use it."""

import base64
import json
import urllib.request
from pathlib import Path
from urllib.parse import quote

import live
from playwright.sync_api import Browser

SECONDS = 120
DEMO = {"RelaxForcingLoadModel": 0, "CLIPLoader": 1, "VAELoader": 2}  # loader: output
PROMPT = "a red circle and a blue square bouncing over a striped green field, fast"


class FrontEnd:
    """A page with one renderer; without a tutorial, which would cover it."""

    def __init__(self, server: live.Server, browser: Browser, *, nodes_2: bool) -> None:
        self._url = server.url
        self._set("Comfy.VueNodes.Enabled", nodes_2)
        self._set("Comfy.TutorialCompleted", True)
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.page.set_default_timeout(1000 * SECONDS)
        self.page.goto(server.url)
        self.page.wait_for_function("window.app?.graph && window.app.extensionManager")

    def close(self) -> None:
        self.page.close()

    def open(self, template: str, *, length: int) -> None:
        """A template of the pack, on the bundled models."""
        path = f"/api/workflow_templates/ComfyUI-RelaxForcing/{quote(template)}.json"
        with urllib.request.urlopen(self._url + path) as reply:
            workflow = on_bundled_models(json.load(reply))
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.set_length(length)

    def show(self, node_type: str) -> None:
        """Bring a node to the middle; only what is in sight is sure to be drawn."""
        self.page.evaluate(
            """type => {
                app.canvas.ds.scale = 0.7
                app.canvas.centerOnNode(app.canvas.graph.nodes.find(node => node.type == type))
                app.canvas.setDirty(true, true)
            }""",
            node_type,
        )

    def set_length(self, length: int) -> None:
        self.page.evaluate(
            """length => {
                for (const node of app.graph.nodes)
                    for (const widget of node.widgets ?? [])
                        if (widget.name == "length" || node.title == "Length")
                            if (typeof widget.value == "number") widget.value = length
            }""",
            length,
        )

    def run(self) -> None:
        self.page.evaluate(
            """() => {
                const endings = ["success", "error", "interrupted"].map(end => `execution_${end}`)
                window.ended = new Promise(resolve => endings.forEach(ending =>
                    app.api.addEventListener(ending, () => resolve(ending), {once: true})))
                return app.queuePrompt(0)
            }"""
        )

    def wait_for_end(self) -> None:
        """Of what `run` has queued, which must succeed."""
        assert self.page.evaluate("window.ended") == "execution_success"

    def wait_for_chunks(self) -> None:
        """Until a few are finished."""
        self.page.evaluate(
            """() => new Promise(resolve => app.api.addEventListener("progress_text", event => {
                if (/^Chunk ([4-9]|\\d\\d)/.test(event.detail.text)) resolve()
            }))"""
        )

    def cancel(self) -> None:
        """Once a few chunks are finished."""
        self.wait_for_chunks()
        self.page.get_by_label("Cancel current run").evaluate("button => button.click()")

    def drop(self, path: Path) -> None:
        """A file on the canvas, as a person drags it there."""
        self.page.evaluate(
            """([bytes, name]) => {
                const data = Uint8Array.from(atob(bytes), character => character.charCodeAt(0))
                const dataTransfer = new DataTransfer()
                dataTransfer.items.add(new File([data], name, {type: "video/mp4"}))
                const canvas = document.querySelector("#graph-canvas")
                const {x, y, width, height} = canvas.getBoundingClientRect()
                const at = {clientX: x + width / 2, clientY: y + height / 2}
                for (const kind of ["dragenter", "dragover", "drop"])
                    canvas.dispatchEvent(new DragEvent(
                        kind, {dataTransfer, bubbles: true, cancelable: true, ...at}))
            }""",
            [base64.b64encode(path.read_bytes()).decode(), path.name],
        )

    def wait_for_text(self, text: str) -> None:
        """Somewhere on a node."""
        self.page.get_by_text(text).first.wait_for()

    def wait_for_playing_video(self, name: str) -> None:
        """A player of a file whose name has `name` in it; what is shown anew may come between."""
        self.page.wait_for_function(
            """name => {
                for (const video of document.querySelectorAll("video")) {
                    const source = video.currentSrc || video.src
                    if (!source.includes(name) || !video.videoWidth) continue
                    if (video.paused) { video.muted = true; video.play().catch(() => {}) }
                    if (video.currentTime > 0.1) return true
                }
                return false
            }""",
            arg=name,
        )

    def _set(self, setting: str, value: bool) -> None:
        headers = {"Content-Type": "application/json"}
        url = f"{self._url}/settings/{setting}"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(value).encode(), headers))


def on_bundled_models(workflow: dict) -> dict:
    """A workflow with the bundled models instead of its loaders, in their size and words."""
    loaders = [node for node in workflow["nodes"] if node["type"] in DEMO]
    if not loaders:
        return workflow
    outputs = [{"name": kind, "type": kind, "links": []} for kind in ("MODEL", "CLIP", "VAE")]
    models = {"type": "RelaxForcingDemoModels", "id": 1 + max(n["id"] for n in workflow["nodes"])}
    models |= {"pos": loaders[0]["pos"], "size": [300, 140], "inputs": [], "outputs": outputs}
    kinds = {node["id"]: DEMO[node["type"]] for node in loaders}
    for link in workflow["links"]:
        if link[1] in kinds:
            link[1:3] = [models["id"], kinds[link[1]]]
            outputs[link[2]]["links"].append(link[0])
    workflow["nodes"] = [n for n in workflow["nodes"] if n not in loaders] + [models]
    for node in workflow["nodes"]:
        values = node.get("widgets_values")
        if node["type"] in ("RelaxForcingSampler", "RelaxForcingStream", "RelaxForcingPlan"):
            values[:2] = [64, 64]
        if node["type"] == "CLIPTextEncode":
            values[0] = PROMPT
    return workflow
