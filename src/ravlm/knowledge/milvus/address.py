"""Parse and validate addresses of knowledge bases on Milvus.

milvus://[user:password@]host[:19530]/name[?consistency=session&files=/shared/folder]
milvuss://...                               the same over TLS
milvus-lite://file.db/name                  a file of Milvus Lite
milvus-lite:///absolute/path/file.db/name
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from ravlm.data.addresses import hide_password
from ravlm.errors import InvalidInput, did_you_mean

DEFAULT_PORT = 19530
CONSISTENCY_LEVELS = {"strong": "Strong", "session": "Session", "bounded": "Bounded"}
"""What a reader waits for: all acknowledged changes, its own changes, or nothing."""
OPTIONS = ("consistency", "files")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True)
class MilvusAddress:
    """The location of a base."""

    uri: str
    """What the client connects to: a server's URL or a file of Milvus Lite."""
    name: str
    text: str
    """The address for messages, without password."""
    user: str = ""
    password: str = field(default="", repr=False)
    consistency: str = "Strong"
    files: Path | None = None
    """Folder for images that come as bytes; all readers must see it under this path."""
    is_lite: bool = False


def parse_address(address: str) -> MilvusAddress:
    """Parse an address. Raises InvalidInput if it does not have the form above."""
    scheme, _, location = address.partition("://")
    if scheme.lower() == "milvus-lite":
        return _parse_lite(address, location)
    return _parse_server(address, scheme)


def _parse_lite(address: str, location: str) -> MilvusAddress:
    file, _, name = location.rpartition("/")
    path = Path(file).absolute()
    if not file.endswith(".db"):
        raise InvalidInput(
            f'"{address}" names no file of Milvus Lite; '
            "write milvus-lite://file.db/name, with the ending .db."
        )
    return MilvusAddress(
        uri=str(path),
        name=_check_name(name, address),
        text=address,
        files=path.with_name(f"{path.name}.files"),
        is_lite=True,
    )


def _parse_server(address: str, scheme: str) -> MilvusAddress:
    safe_address = hide_password(address)
    try:
        url = urlsplit(address)
        host = url.hostname
        port = url.port or DEFAULT_PORT
    except ValueError:  # the port is not a number
        host = None
    if not host:
        raise InvalidInput(
            f'"{safe_address}" names no server; write milvus://host:{DEFAULT_PORT}/name, and a '
            '"/", "@", "?" or "#" in a password as %2F, %40, %3F or %23.'
        )
    if ":" in host:  # IPv6
        host = f"[{host}]"
    options = _parse_options(url.query, safe_address)
    name = _check_name(url.path.strip("/"), safe_address)
    protocol = "https" if scheme.lower() == "milvuss" else "http"
    return MilvusAddress(
        uri=f"{protocol}://{host}:{port}",
        name=name,
        text=f"{scheme}://{host}:{port}/{name}",
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        consistency=CONSISTENCY_LEVELS[options.get("consistency", "strong")],
        files=Path(options["files"]).absolute() if options.get("files") else None,
    )


def _parse_options(query: str, address: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for key in options:
        if key not in OPTIONS:
            raise InvalidInput(
                f'The address "{address}" has the unknown option "{key}"; '
                f"allowed: {', '.join(OPTIONS)}.{did_you_mean(key, OPTIONS)}"
            )
    if "consistency" in options:
        level = options["consistency"] = options["consistency"].lower()
        if level not in CONSISTENCY_LEVELS:
            raise InvalidInput(
                f'The address "{address}" has consistency={level}; '
                f"allowed: {', '.join(CONSISTENCY_LEVELS)}."
                f"{did_you_mean(level, CONSISTENCY_LEVELS)}"
            )
    return options


def _check_name(name: str, address: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f'The address "{address}" gives the base the name "{name}"; use up to 100 of the '
            "letters a to z, digits and _, starting with a letter."
        )
    return name
