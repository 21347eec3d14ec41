// New words of a running video, written into the text of its Relax Forcing Prompt Schedule; see
// relax_memory/host/steering/routes.py. Only a text that the video had before is replaced: what
// somebody has typed meanwhile stays, and so does another workflow in which the ids are the same.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { find } from "./nodes.js";

const SCHEDULE = "RelaxForcingPromptSchedule";
const had = new Map(); // by prompt and node: the texts so far

app.registerExtension({
  name: "RelaxForcing.Directed",
  setup() {
    api.addEventListener("relax_forcing.directed", ({ detail }) => {
      const { prompt_id, node_id, before, text } = detail;
      const key = `${prompt_id} ${node_id}`;
      had.set(key, (had.get(key) ?? new Set()).add(before));
      const node = find(node_id);
      const widget = node?.widgets?.find(({ name }) => name == "text");
      if (node?.type == SCHEDULE && had.get(key).has(widget?.value)) {
        app.canvas.emitBeforeChange(); // a step of its own for undo and redo
        widget.value = text;
        app.canvas.emitAfterChange();
        app.canvas.setDirty(true, true);
      }
    });
  },
});
