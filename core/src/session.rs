//! The server side of Streamable HTTP, where every session ends on one path.
