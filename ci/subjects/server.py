"""A small stdio server on the official Python SDK: nothing of its own that could leak."""

import anyio
from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("scupper-subject", version="1.0.0", log_level="WARNING")

READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)


@server.tool(annotations=READ_ONLY)
def echo(message: str) -> str:
    """Return the message."""
    return message


@server.tool()
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@server.tool()
async def sleep(ms: int) -> str:
    """Answer after so many milliseconds, so that a call can be in flight."""
    await anyio.sleep(ms / 1000)
    return f"slept {ms} ms"


if __name__ == "__main__":
    server.run("stdio")
