// A small client on the official TypeScript SDK: connects, lists, calls, closes.
//
//     client.mjs [--no-delete] [--stay | --rounds N] URL
//     client.mjs [--stay | --rounds N] COMMAND [ARGS]…
//
// Over Streamable HTTP where the server is a URL. With --stay it keeps its connection until its own
// stdin ends; with --rounds it does all of it N times; with --no-delete it closes and no more, which
// leaves its session on the server. The SDK is the one that ci/setup installs for the Node servers.
import { createRequire } from "node:module";
import { once } from "node:events";

const require = createRequire(new URL("../.installed/npm/package.json", import.meta.url));
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");

const words = process.argv.slice(2);
const forgets = words[0] === "--no-delete" && Boolean(words.shift());
const stay = words[0] === "--stay" && Boolean(words.shift());
const rounds = words[0] === "--rounds" ? Number(words.splice(0, 2)[1]) : 1;
const [server, ...args] = words;
const isUrl = server.startsWith("http://");

for (let round = 0; round < rounds; round++) {
  const client = new Client({ name: "scupper-subject", version: "1.0.0" });
  const transport = isUrl
    ? new StreamableHTTPClientTransport(new URL(server))
    : new StdioClientTransport({ command: server, args });
  try {
    await client.connect(transport);
    await client.listTools();
    await client.callTool({ name: "echo", arguments: { text: "hello" } });
    if (stay) {
      process.stdin.resume();
      await once(process.stdin, "end");
    }
  } finally {
    // close() does not end the session; the SDK has a call of its own for that.
    if (isUrl && !forgets && transport.sessionId) await transport.terminateSession();
    await client.close();
  }
}
