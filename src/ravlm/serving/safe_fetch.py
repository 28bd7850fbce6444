"""Download images from public addresses, never from this machine or a private network (SSRF guard).

The addresses of a host are resolved once, checked, and connected to directly, so a name cannot
point elsewhere between check and connection. Every redirect is checked the same way. No proxy, no
cookies."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

from ravlm.errors import BrokenData, InvalidInput, NotFound

_MAX_REDIRECTS = 3
_REDIRECT_STATUSES = (301, 302, 303, 307, 308)
_IPV4_IN_IPV6 = tuple(
    map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
)
"""IPv6 networks that embed an IPv4 address, which may be private (NAT64, 6to4, Teredo)."""
ResolveHost: TypeAlias = Callable[[str, int], list[str]]


def resolve_host(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host."""
    try:
        records = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotFound(f'There is no host "{host[:100]}": {error}.') from None
    return [str(record[4][0]) for record in records]


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public internet."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return is_public(str(ip.ipv4_mapped))
    embeds_ipv4 = ip.version == 6 and any(ip in network for network in _IPV4_IN_IPV6)
    return ip.is_global and not (ip.is_multicast or embeds_ipv4)


class ImageFetcher:
    """Downloads one address at a time: `fetcher(url)` returns the bytes.

    `public` decides whether an IP address may be contacted; `resolve` looks up a host."""

    def __init__(
        self,
        max_bytes: int,
        seconds: float = 20.0,
        resolve: ResolveHost = resolve_host,
        public: Callable[[str], bool] = is_public,
    ) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._resolve = resolve
        self._public = public

    def __call__(self, url: str) -> bytes:
        """Return the bytes at an http(s) address. Raises InvalidInput, NotFound or BrokenData."""
        deadline = time.monotonic() + self._seconds
        for _ in range(_MAX_REDIRECTS + 1):
            body_or_redirect = self._get(url, deadline)
            if isinstance(body_or_redirect, bytes):
                return body_or_redirect
            url = urljoin(url, body_or_redirect)
        raise NotFound(
            f"The image address redirects more than {_MAX_REDIRECTS} times; use the final address."
        )

    def _get(self, url: str, deadline: float) -> bytes | str:
        """Return the body, or the target of a redirect."""
        connection, path = self._connect(url, deadline)
        try:
            connection.request("GET", path, headers={"User-Agent": "ravlm", "Accept": "image/*"})
            response = connection.getresponse()
            if response.status in _REDIRECT_STATUSES:
                return response.headers.get("Location") or ""
            if response.status != 200:
                raise NotFound(f"The image address answered {response.status}; check it.")
            return self._read(response, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, NotFound | InvalidInput):
                raise
            raise NotFound(
                f"The image address can't be read: {type(error).__name__}; check it."
            ) from None
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        data = bytearray()
        while chunk := response.read1(65536):
            data += chunk
            if len(data) > self._max_bytes:
                raise BrokenData(
                    f"The image address sends more than the {self._max_bytes:,} bytes allowed."
                )
            if time.monotonic() > deadline:
                raise BrokenData(f"The image was not received within {self._seconds:g} seconds.")
        return bytes(data)

    def _connect(self, url: str, deadline: float) -> tuple[http.client.HTTPConnection, str]:
        """Return a connection to a checked IP address, and the path to request."""
        try:
            parts = urlsplit(url)
            host = parts.hostname
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise InvalidInput(f"The image address is not valid: {error}.") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise InvalidInput(
                "An image address must look like https://host/path, without a name and password."
            )
        addresses = self._resolve(host, port)
        if not addresses or not all(map(self._public, addresses)):
            raise InvalidInput(
                f'The host "{host[:100]}" is this machine or in a private network, which is not '
                "allowed. Send the image as a data URL."
            )
        timeout = max(0.1, deadline - time.monotonic())
        connection_class = _PinnedTlsConnection if parts.scheme == "https" else _PinnedConnection
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        return connection_class(host, port, addresses[0], timeout), path


class _PinnedConnection(http.client.HTTPConnection):
    """Connects to a given IP address and asks it for the host by name."""

    def __init__(self, host: str, port: int, address: str, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)


class _PinnedTlsConnection(_PinnedConnection):
    """The same over TLS; the certificate must be valid for the host name."""

    default_port = 443

    def connect(self) -> None:
        super().connect()
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
