"""A small Streamable HTTP server on the official Python SDK, with the tools of server.py.

    http_server.py PORT

Serves http://127.0.0.1:PORT/mcp. Nothing of its own that could leak.
"""

import sys

from server import server

if __name__ == "__main__":
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
