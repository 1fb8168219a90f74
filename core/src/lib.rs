//! MCP connections that drain.
