"""The commands that serve a knowledge base: `ravlm serve` over HTTP, `ravlm mcp` over MCP."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.cli.command import (
    GENERATOR,
    KB,
    MAX_TOKENS,
    OCR_QUESTION,
    Command,
    K,
    Options,
    argument,
)
from ravlm.cli.output import note, print_json
from ravlm.errors import MissingExtra, NotFound

if TYPE_CHECKING:
    from ravlm.serving.state import ServedModel

_SERVE_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def serve(options: Options) -> int:
    """Run `ravlm serve` until it is stopped."""
    for package in _SERVE_PACKAGES:
        _require(package, "serve", "ravlm serve")
    from ravlm.serving.server import serve as serve_until_stopped
    from ravlm.serving.settings import Settings, read_token

    settings = Settings(
        host=options.host,
        port=options.port,
        token=read_token(options.token_file, os.environ),
        fetch_images=options.fetch_images,
        allowed_origins=tuple(options.allow_origin),
        k=options.k,
    )

    def on_started(address: str) -> None:
        if options.json:
            print_json({"address": address})
        else:
            print(f"Web page:  {address}/")
            print(f"OpenAI-compatible API:  {address}/v1   (documentation: {address}/docs)")
            print("Ctrl-C stops the server.", flush=True)

    note("Loading the knowledge base and the models ...")
    serve_until_stopped(_load_model(options), settings, on_started)
    return 0


def mcp(options: Options) -> int:
    """Run `ravlm mcp` until stdin ends."""
    _require("mcp", "mcp", "ravlm mcp")
    for package in _SERVE_PACKAGES:
        _require(package, "mcp", "ravlm mcp")
    from ravlm.serving.mcp import create_mcp_server

    image_folder = None if options.images is None else Path(options.images)
    if image_folder is not None and not image_folder.is_dir():
        raise NotFound(f'There is no folder "{image_folder}"; name an existing one for --images.')
    served_model = _load_model(options)
    create_mcp_server(served_model, image_folder, options.allow_changes).run("stdio")
    served_model.close()
    return 0


def _load_model(options: Options) -> ServedModel:
    from ravlm.serving.state import ServedModel

    return ServedModel(
        options.kb, options.generator, options.k, max_tokens=options.max_tokens, ocr=options.ocr
    )


def _require(package: str, extra: str, command: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, extra, command)


COMMANDS = {
    "serve": Command(
        "serve the knowledge base over HTTP: a web page and an OpenAI-compatible API",
        serve,
        (
            KB,
            GENERATOR,
            K,
            MAX_TOKENS,
            OCR_QUESTION,
            argument(
                "--host",
                default="127.0.0.1",
                help="host to listen on (default 127.0.0.1; any other needs a token)",
            ),
            argument(
                "--port",
                type=int,
                default=8000,
                metavar="N",
                help="port to listen on (default 8000; 0: any free port)",
            ),
            argument(
                "--token-file",
                metavar="FILE",
                help="file with the token that clients must send (default: variable RAVLM_TOKEN)",
            ),
            argument(
                "--allow-origin",
                action="append",
                default=[],
                metavar="URL",
                help="a web site whose pages may call the server; may be repeated",
            ),
            argument(
                "--fetch-images",
                action="store_true",
                help="accept public web addresses as images",
            ),
        ),
        """
        ravlm serve kb
        ravlm serve kb --generator http://localhost:11434/v1#gemma3 --port 9000
        ravlm serve kb --host 0.0.0.0 --token-file token.txt
        """,
    ),
    "mcp": Command(
        "offer the knowledge base as tools to language models, over MCP (stdin and stdout)",
        mcp,
        (
            KB,
            GENERATOR,
            K,
            MAX_TOKENS,
            OCR_QUESTION,
            argument(
                "--images",
                metavar="FOLDER",
                help="folder whose images clients may name (default: none)",
            ),
            argument(
                "--allow-changes",
                action="store_true",
                help="also offer tools that add and remove entries",
            ),
        ),
        """
        ravlm mcp kb
        ravlm mcp kb --images ~/Pictures --allow-changes
        """,
        json=False,
    ),
}
