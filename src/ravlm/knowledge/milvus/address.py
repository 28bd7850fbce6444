"""Addresses of knowledge bases on Milvus, read and checked. Knows no client.

milvus://[user:password@]host[:19530]/name[?consistency=session&files=/shared/folder]
milvuss:// over TLS milvus-lite://file.db/name      milvus-lite:///absolute/path/file.db/name"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from ravlm.errors import InvalidInput, did_you_mean

PORT = 19530
CONSISTENCY = {"strong": "Strong", "session": "Session", "bounded": "Bounded"}
"""What a reader waits for: all that was acknowledged to anybody; what was acknowledged to itself;
nothing."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True)
class Address:
    """Where a base is. `uri`: what the client connects to, a server's address or a file of Milvus
    Lite."""

    uri: str
    name: str
    text: str
    """The address as it is shown: without a password."""
    user: str = ""
    password: str = ""
    consistency: str = "Strong"
    files: Path | None = None
    """A folder for pictures that come as bytes; all who read the base must see it under this
    path."""
    lite: bool = False


def read_address(address: str) -> Address:
    """Take an address apart. Raises InvalidInput where it is not as the table above shows."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() == "milvus-lite":
        file, _, name = rest.rpartition("/")
        path = Path(file).absolute()
        if not file.endswith(".db"):
            raise InvalidInput(
                f'"{address}" names no file of Milvus Lite; write milvus-lite://file.db/name, with the ending .db.'
            )
        return Address(
            str(path),
            _checked(name, address),
            address,
            files=path.with_name(f"{path.name}.files"),
            lite=True,
        )
    found = urlsplit(address)
    try:
        host, port = found.hostname, found.port or PORT
    except ValueError:
        host, port = None, PORT
    if not host:
        raise InvalidInput(f'"{address}" names no server; write milvus://host:{PORT}/name.')
    options = dict(parse_qsl(found.query, keep_blank_values=True))
    for key in options:
        if key not in ("consistency", "files"):
            hint = did_you_mean(key, ("consistency", "files"))
            raise InvalidInput(
                f'The address "{address}" has the option "{key}"; allowed: consistency, files.{hint}'
            )
    consistency = options.get("consistency", "strong").lower()
    if consistency not in CONSISTENCY:
        raise InvalidInput(
            f'The address "{address}" has consistency={consistency}; allowed: {", ".join(CONSISTENCY)}.'
            f"{did_you_mean(consistency, CONSISTENCY)}"
        )
    host = f"[{host}]" if ":" in host else host
    name = _checked(found.path.strip("/"), address)
    return Address(
        uri=f"{'https' if scheme.lower() == 'milvuss' else 'http'}://{host}:{port}",
        name=name,
        text=f"{scheme}://{host}:{port}/{name}",
        user=unquote(found.username or ""),
        password=unquote(found.password or ""),
        consistency=CONSISTENCY[consistency],
        files=Path(options["files"]).absolute() if options.get("files") else None,
    )


def _checked(name: str, address: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f'The address "{address}" gives the base the name "{name}"; Milvus takes up to 100 of the letters a to z, '
            "digits and _, and a letter first."
        )
    return name
