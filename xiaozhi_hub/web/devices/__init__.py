"""What devices and plain clients ask over HTTP and the WebSocket."""
