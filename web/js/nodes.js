// Nodes of the graph by the ids that the server uses.
import { app } from "../../../scripts/app.js";

// The node of an id such as "12:6", which lies in the subgraph of node 12.
export function find(id) {
  let graph = app.rootGraph ?? app.graph;
  let node;
  for (const part of id.split(":")) {
    node = graph?.getNodeById(part);
    graph = node?.subgraph;
  }
  return node;
}
