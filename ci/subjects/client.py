"""A small client on the official Python SDK: connects, lists, calls, closes.

    client.py [--stay | --rounds N] URL
    client.py [--stay | --rounds N] COMMAND [ARGS]…

Over Streamable HTTP where the server is a URL. With --stay it keeps its connection until its own
stdin ends; with --rounds it does all of it N times.
"""

import sys

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


async def main(words: list[str]) -> None:
    stay = words[:1] == ["--stay"]
    rounds = int(words[1]) if words[:1] == ["--rounds"] else 1
    server = words[stay + 2 * (words[:1] == ["--rounds"]) :]
    for _ in range(rounds):
        await work(server, stay)


async def work(server: list[str], stay: bool) -> None:
    async with transport(*server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        await session.list_tools()
        await session.call_tool("echo", {"text": "hello"})
        if stay:
            await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


def transport(server: str, *arguments: str):
    if server.startswith("http://"):
        return streamable_http_client(server)
    return stdio_client(StdioServerParameters(command=server, args=list(arguments)))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
