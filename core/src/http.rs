//! The client side of Streamable HTTP, whose close ends session, streams and sockets.
