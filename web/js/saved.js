// A button of Relax Forcing Saved Videos: the workflow that made the chosen video, in a tab of its
// own; see relax_memory/host/keeping/listing.py.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

function warn(detail) {
  app.extensionManager.toast.add({ severity: "warn", summary: "Relax Forcing", detail });
}

async function open(rollout) {
  const reply = await api.fetchApi("/relax_forcing/graph", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ rollout }),
  });
  const { error, prompt, workflow } = await reply.json();
  const name = rollout.replace(/^[└ ]+/, "").split("  ")[0];
  if (error) {
    warn(error);
  } else if (workflow) {
    await app.loadGraphData(workflow, true, true, name);
  } else {
    app.loadApiJson(prompt, name); // of what was queued by another program
  }
}

app.registerExtension({
  name: "RelaxForcing.Saved",
  nodeCreated(node) {
    if (node.comfyClass != "RelaxForcingSaved") return;
    const chosen = () => node.widgets.find(({ name }) => name == "rollout").value;
    const failed = ({ message }) => warn(`The workflow was not opened: ${message}`);
    const press = () => open(chosen()).catch(failed);
    const button = node.addWidget("button", "open its workflow", null, press, { serialize: false });
    button.serialize = false;
  },
});
