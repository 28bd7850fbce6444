"""The commands that serve a knowledge base: `ravlm serve` over HTTP, `ravlm mcp` over MCP. Knows no
protocol."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ravlm.cli.output import note, print_json
from ravlm.cli.parser import GENERATOR, KB, Command, K, Options, argument
from ravlm.errors import MissingExtra, NotFound


def serve(options: Options) -> int:
    """`ravlm serve`: until it is stopped."""
    _need("fastapi", "serve", "ravlm serve")
    _need("uvicorn", "serve", "ravlm serve")
    from ravlm.serving.server import serve as serve_until_stopped
    from ravlm.serving.settings import Settings, read_token
    from ravlm.serving.state import ServedModel

    settings = Settings(
        options.host, options.port, read_token(options.token_file, os.environ), options.fetch_images,
        tuple(options.allow_origin), options.k,
    )  # fmt: skip

    def started(address: str) -> None:
        if options.json:
            print_json({"address": address})
        else:
            print(
                f"The page: {address}/   OpenAI-compatible: {address}/v1   (Ctrl-C stops)",
                flush=True,
            )

    note("Loading ...")
    serve_until_stopped(ServedModel(options.kb, options.generator, options.k), settings, started)
    return 0


def mcp(options: Options) -> int:
    """`ravlm mcp`: until stdin ends."""
    _need("mcp", "mcp", "ravlm mcp")
    from ravlm.serving.mcp import create_tools
    from ravlm.serving.state import ServedModel

    folder = None if options.pictures is None else Path(options.pictures)
    if folder is not None and not folder.is_dir():
        raise NotFound(f'There is no folder "{folder}"; name one for --pictures.')
    library = ServedModel(options.kb, options.generator, options.k)
    create_tools(library, folder, options.allow_changes).run("stdio")
    library.close()
    return 0


def _need(package: str, extra: str, purpose: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, extra, purpose)


COMMANDS = {
    "serve": Command(
        "serve the base: a web page, an OpenAI-compatible API, search, questions, entries",
        serve,
        (
            KB,
            GENERATOR,
            K,
            argument(
                "--host",
                default="127.0.0.1",
                help="where to listen (default 127.0.0.1; others need a token)",
            ),
            argument(
                "--port",
                type=int,
                default=8000,
                metavar="N",
                help="default 8000; 0: any that is free",
            ),
            argument(
                "--token-file",
                metavar="FILE",
                help="holds the token that clients send (else RAVLM_TOKEN)",
            ),
            argument(
                "--allow-origin",
                action="append",
                default=[],
                metavar="URL",
                help="a web site that may call it",
            ),
            argument(
                "--fetch-images",
                action="store_true",
                help="fetch pictures from public web addresses",
            ),
        ),
        """
        ravlm serve kb
        ravlm serve kb --generator http://localhost:11434/v1#gemma3 --port 9000
        ravlm serve kb --host 0.0.0.0 --token-file token.txt
        """,
    ),
    "mcp": Command(
        "give other programs' models the base as tools, over MCP on stdin and stdout",
        mcp,
        (
            KB,
            GENERATOR,
            K,
            argument(
                "--pictures",
                metavar="FOLDER",
                help="a folder whose pictures may be named (default: none)",
            ),
            argument(
                "--allow-changes",
                action="store_true",
                help="tools that add and remove entries, too",
            ),
        ),
        """
        ravlm mcp kb
        ravlm mcp kb --pictures ~/Pictures --allow-changes
        """,
    ),
}
