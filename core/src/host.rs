//! Named MCP servers that are added, called, removed and shut down.
