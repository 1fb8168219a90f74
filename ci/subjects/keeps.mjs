// A server on the TypeScript SDK that keeps so many KiB of its heap for each call: node keeps.mjs KIB.
// With 0 it keeps nothing. For ci/growth-campaign.
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const installed = fileURLToPath(new URL("../.installed/npm/node_modules/", import.meta.url));
const from = createRequire(installed);
const load = (path) => import(pathToFileURL(from.resolve(path)).href);
const { McpServer } = await load("@modelcontextprotocol/sdk/server/mcp.js");
const { StdioServerTransport } = await load("@modelcontextprotocol/sdk/server/stdio.js");

const kib = Number(process.argv[2] ?? 0);
const kept = [];
const server = new McpServer({ name: "keeps", version: "1.0.0" });
server.registerTool(
  "echo",
  { description: "Keep something.", annotations: { readOnlyHint: true, openWorldHint: false } },
  async () => {
    // A number takes 8 bytes.
    if (kib > 0) kept.push(new Array(kib * 128).fill(Math.random()));
    return { content: [{ type: "text", text: `kept ${kept.length}` }] };
  },
);
await server.connect(new StdioServerTransport());
