"""What benches/teardown has of the official Python SDK: connections over stdio, closed by the clock.

On stdin come orders, a line of JSON each; to each goes a line of JSON back:

    {"open": N, "command": [PROGRAM, ARG…], "env": {…}, "busy": MS or null}   -> {"open": N}
    {"close": true}                        -> {"whole_ms": T, "each_ms": [T…]}, from one beginning

A busy one has a call of `sleep` in flight. The end of stdin ends it.
"""

import json
import sys
import time

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest


class Round:
    """Connections that are opened together and closed together."""

    def __init__(self, order: dict):
        self.order = order
        self.began = 0.0
        self.closing = anyio.Event()
        self.each_ms: list[float] = []

    async def life(self, *, task_status: anyio.abc.TaskStatus) -> None:
        program, *args = self.order["command"]
        server = StdioServerParameters(command=program, args=args, env=self.order["env"])
        async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            if self.order["busy"]:
                call = {"name": "sleep", "arguments": {"ms": self.order["busy"]}}
                request = JSONRPCRequest(jsonrpc="2.0", id="busy", method="tools/call", params=call)
                await write.send(SessionMessage(request))
            await session.call_tool("echo", {"text": "hello"})
            task_status.started()
            await self.closing.wait()
        self.each_ms.append((time.perf_counter() - self.began) * 1000)

    async def play(self) -> None:
        async with anyio.create_task_group() as lives:
            async with anyio.create_task_group() as starts:
                for _ in range(self.order["open"]):
                    starts.start_soon(lives.start, self.life)
            say({"open": self.order["open"]})
            await hear()
            self.began = time.perf_counter()
            self.closing.set()
        say({"whole_ms": (time.perf_counter() - self.began) * 1000, "each_ms": self.each_ms})


async def hear() -> str:
    return await anyio.to_thread.run_sync(sys.stdin.readline)


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


async def main() -> None:
    while line := await hear():
        await Round(json.loads(line)).play()


if __name__ == "__main__":
    anyio.run(main)
