// What benches/teardown has of the official TypeScript SDK: connections over stdio, closed by the clock.
// The orders are those of bench_client.py:
//
//     {"open": N, "command": [PROGRAM, ARG…], "env": {…}, "busy": MS or null}   -> {"open": N}
//     {"close": true}                        -> {"whole_ms": T, "each_ms": [T…]}, from one beginning
//
// A busy one has a call of `sleep` in flight. The end of stdin ends it.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../.installed/npm/package.json", import.meta.url));
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");

let clients = [];
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.close) {
    const began = performance.now();
    const ends = clients.map((client) => client.close().then(() => performance.now() - began));
    const each_ms = await Promise.all(ends);
    say({ whole_ms: performance.now() - began, each_ms });
    clients = [];
  } else {
    clients = await Promise.all(Array.from({ length: order.open }, () => open(order)));
    say({ open: clients.length });
  }
}

async function open({ command: [command, ...args], env, busy }) {
  const client = new Client({ name: "scupper-bench", version: "1.0.0" });
  const transport = new StdioClientTransport({ command, args, env });
  await client.connect(transport);
  if (busy) {
    const params = { name: "sleep", arguments: { ms: busy } };
    await transport.send({ jsonrpc: "2.0", id: "busy", method: "tools/call", params });
  }
  await client.callTool({ name: "echo", arguments: { text: "hello" } });
  return client;
}

function say(answer) {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
