"""Server settings: where it listens, who has access, and what a request may cost.

A server that other machines can reach needs a token."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ravlm.errors import BrokenData, InvalidInput, NotFound

TOKEN_VARIABLE = "RAVLM_TOKEN"  # noqa: S105 - the name of a variable
_MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request. The limits of its fields are in `schemas`."""

    body: int = 32_000_000
    """Bytes of the request body; more is answered with 413."""
    image_bytes: int = 16_000_000
    """Bytes of one encoded image."""
    pixels: int = 40_000_000
    """Width x height of one image."""
    seconds: float = 120.0
    """From the last byte of the request to the end of the response; then 504."""
    body_seconds: float = 30.0
    """Until the request body has arrived; then 408."""
    waiting: int = 128
    """Queue length of each batcher (encoding, generation, ...); more requests get 429."""
    batch: int = 32
    """Largest batch of the encoder and of the generator, in requests."""
    streams: int = 8
    """Answers that are streamed at the same time; more are queued."""


@dataclass(frozen=True)
class Settings:
    """Settings of a server. Raises InvalidInput if other machines could reach it without a token.

    >>> Settings(port=9000, allowed_origins=("https://example.org",)).host
    '127.0.0.1'
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    """Bearer token that clients must send; None gives access to everyone on this machine."""
    fetch_images: bool = False
    """Whether images may be http(s) addresses. Addresses of this machine or a private network are
    always refused."""
    allowed_origins: tuple[str, ...] = ()
    """Web sites (https://example.org) whose pages may call this server."""
    k: int = 4
    """Entries read as evidence if a request does not give `k`."""
    grace: float = 10.0
    """Seconds that running answers may take after the server was asked to stop."""
    limits: RequestLimits = RequestLimits()

    def __post_init__(self) -> None:
        if self.token is not None and (
            len(self.token) < _MIN_TOKEN_LENGTH or not self.token.isascii()
        ):
            raise InvalidInput(
                f"The token has {len(self.token)} characters; it needs at least "
                f"{_MIN_TOKEN_LENGTH}, ASCII only. Make one with: openssl rand -hex 24"
            )
        if self.token is None and not is_loopback(self.host):
            raise InvalidInput(
                f'Other machines can reach the server at host "{self.host}", but it has no token. '
                f"Set one with --token-file FILE or {TOKEN_VARIABLE}, or leave out --host to serve "
                "this machine only."
            )
        if not 0 <= self.port <= 65535:
            raise InvalidInput(
                f"The port is {self.port}; allowed: 1 to 65535, or 0 for any free port."
            )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server at `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(file: str | Path | None, environment: Mapping[str, str]) -> str | None:
    """Return the token in `file`, else in the variable RAVLM_TOKEN, else None."""
    if file is None:
        return environment.get(TOKEN_VARIABLE) or None
    try:
        words = Path(file).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise NotFound(
            f'There is no token file "{file}"; make one: openssl rand -hex 24 > {file}'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenData(f'The token file "{file}" can\'t be read: {error}.') from error
    if len(words) != 1:
        raise InvalidInput(
            f'The token file "{file}" has {len(words)} words; it must have exactly one: the token.'
        )
    return words[0]
