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
    """What requests may cost: one of them, and all together. The limits of fields are in `schemas`,
    those of the formats of images in `ravlm.data.decompression_bombs`.

    docs/security.md lists them with their tests."""

    body: int = 32_000_000
    """Bytes of the request body; more is answered with 413."""
    bodies: int = 256_000_000
    """Bytes of all request bodies that are held at the same time; more get 429. Eight of the
    largest."""
    json_marks: int = 1_000_000
    """Quotes, commas, colons and brackets of a JSON body (400). Parsing and checking stop all other
    work: for 0.4 s at most with these, for 34 s without a limit."""
    head_seconds: float = 10.0
    """Until the request line and headers have arrived; then the connection is closed."""
    body_seconds: float = 30.0
    """Until the request body has arrived; then 408."""
    seconds: float = 120.0
    """From the last byte of the request to the end of the response; then 504."""
    write_seconds: float = 20.0
    """How long a client may leave a part of the response unread; then the connection is closed."""
    connections: int = 512
    """Open connections; for a new one beyond them the longest idle one is closed. Half of the 1,024
    files that a process may usually open."""
    waiting: int = 128
    """Queue length of each batcher (encoding, generation, ...); more requests get 429."""
    batch: int = 32
    """Largest batch of the encoder and of the generator, in requests."""
    streams: int = 8
    """Answers that are streamed at the same time; more are queued."""
    stream_characters: int = 1_000_000
    """Text of a streamed answer that its client has not read yet; then the stream ends."""
    image_bytes: int = 16_000_000
    """Bytes of one encoded image."""
    pixels: int = 40_000_000
    """Width x height of one image."""
    request_pixels: int = 400_000_000
    """The same for all images of a request together: ten of the largest, or 2,000 of 450 x 450."""
    slow_pixels: int = 1_000_000
    """The same for run-length-encoded BMP, which Pillow decodes in Python: 0.2 s."""
    decoders: int = 4
    """Processes that decode images, at most one per core."""
    decoder_bytes: int = 768_000_000
    """Memory that each of them may allocate. Images of 40 million pixels take up to 610 MB, with
    transparency."""
    decode_seconds: int = 10
    """Processor time of one image; then its process is killed. Of 40 million pixels: 2.4 s."""
    decoded_images: int = 128
    """Decoded images that wait or are read by a model at the same time, 4 MB each; more wait in
    encoded form."""


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
    grace: float = 7.0
    """Seconds that running answers may take after the server was asked to stop. The process ends
    within ten seconds: that is when `docker stop` kills it."""
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
