// What a node of this pack has said last stays on it: newer front ends (1.58.1) take every node's
// text away when a run ends, and so "chunks are saved: queue again to continue" as well, before
// anybody could read it. See relax_memory/host/notice.py.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { find } from "./nodes.js";

// After each of these the front end may have cleared texts; of a run that fails at once it learns
// the end before it has stored the run, and clears when it is queued.
const CLEARING = ["execution_success", "execution_error", "execution_interrupted", "promptQueued"];

const said = new Map(); // id: the node, and what it said last

function sayAgain() {
  for (const [nodeId, { node, text }] of said) {
    if (find(nodeId) != node) {
      said.delete(nodeId); // another workflow
    } else if (node.graph == app.canvas.graph) {
      api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId, text } }));
    }
  }
}

app.registerExtension({
  name: "RelaxForcing.LastWords",
  setup() {
    api.addEventListener("progress_text", ({ detail }) => {
      const nodeId = String(detail.nodeId);
      const node = find(nodeId);
      if (node?.type.startsWith("RelaxForcing")) said.set(nodeId, { node, text: detail.text });
    });
    // The front end clears in listeners of its own, which may come after this one.
    for (const event of CLEARING) api.addEventListener(event, () => setTimeout(sayAgain));
    // What is said to a node of a subgraph is dropped unless that is open.
    app.canvas.canvas.addEventListener("litegraph:set-graph", () => setTimeout(sayAgain));
  },
});
