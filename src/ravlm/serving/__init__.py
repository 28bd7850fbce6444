"""The base and its model over HTTP, on a web page and over MCP. `app.create_app` is the ASGI
application."""
