"""How a server is set up: where it listens, who may come in, and what a request may cost.

Knows no HTTP. A place that others can reach needs a token.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ravlm.errors import BrokenData, InvalidInput, NotFound

TOKEN_VARIABLE = "RAVLM_TOKEN"  # noqa: S105 - the name of a variable
_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class RequestLimits:
    """What a request may cost before it is refused; what a body may hold stands in `schemas`."""

    body: int = 32_000_000
    """Bytes of a request's body (413)."""
    image_bytes: int = 16_000_000
    """Bytes of one encoded picture."""
    pixels: int = 40_000_000
    """Width x height of one picture."""
    seconds: float = 120.0
    """From the last byte of a request to the end of its answer (504)."""
    body_seconds: float = 30.0
    """Until a request's body has come (408)."""
    waiting: int = 128
    """Requests that wait for the encoder, and as many for the generator; more are told to come
    again (429)."""
    batch: int = 32
    """Requests that go through the encoder or the generator together."""
    streams: int = 8
    """Answers that are streamed at once; more wait."""


@dataclass(frozen=True)
class Settings:
    """A server's settings. Raises InvalidInput where others could reach it and it has no token."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    """What clients send as `Authorization: Bearer ...`; None lets everybody on this machine in."""
    fetch_images: bool = False
    """Whether pictures may be named by http(s) addresses; never by one of this machine or a private
    network."""
    origins: tuple[str, ...] = ()
    """Web sites (https://example.org) whose pages may call this server; none by default."""
    k: int = 4
    """Entries that are read as evidence where a request doesn't say."""
    grace: float = 10.0
    """Seconds that answers under way are given after the server was asked to stop."""
    limits: RequestLimits = RequestLimits()

    def __post_init__(self) -> None:
        if self.token is not None and (
            len(self.token) < _SHORTEST_TOKEN or not self.token.isascii()
        ):
            raise InvalidInput(
                f"The token has {len(self.token)} characters; at least {_SHORTEST_TOKEN} ASCII ones are needed, such "
                "as those of: openssl rand -hex 24"
            )
        if self.token is None and not is_loopback(self.host):
            raise InvalidInput(
                f'At the host "{self.host}" others can reach the server, and it has no token; give one with '
                f"--token-file FILE or {TOKEN_VARIABLE}, or leave --host out to serve this machine only."
            )
        if not 0 <= self.port <= 65535:
            raise InvalidInput(
                f"The port is {self.port}; allowed: 1 to 65535, or 0 for any that is free."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(file: str | Path | None, environment: Mapping[str, str]) -> str | None:
    """The token of a file's first line, else of the variable RAVLM_TOKEN; None where there is
    neither."""
    if file is None:
        return environment.get(TOKEN_VARIABLE) or None
    try:
        lines = Path(file).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise NotFound(
            f'There is no token file "{file}"; make one: openssl rand -hex 24 > {file}'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenData(f'The token file "{file}" can\'t be read: {error}.') from error
    if len(lines) != 1:
        raise InvalidInput(
            f'The token file "{file}" holds {len(lines)} words; one is needed: the token.'
        )
    return lines[0]
