"""The sockets: HTTP and WebSocket on one port."""
