// The one setting of this pack in the host's dialog; relax_memory/host/keeping/bound.py reads it.
import { app } from "../../../scripts/app.js";

app.registerExtension({
  name: "RelaxForcing.Settings",
  settings: [
    {
      id: "RelaxForcing.FinishedGB",
      category: ["Relax Forcing", "Saved videos", "FinishedGB"],
      name: "Room for finished videos (GB)",
      tooltip:
        "How much the latents of finished videos may take in output/relax_forcing. Beyond it, " +
        "forgotten ones are deleted and then the oldest. Kept and unfinished ones stay.",
      type: "number",
      defaultValue: 4,
      attrs: { min: 0, max: 100000, step: 1 },
    },
  ],
});
