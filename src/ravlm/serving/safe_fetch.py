"""Pictures at addresses, for a server that was told to fetch them: never from this machine or a
private network.

A host's addresses are looked up once, judged, and connected to as they are, so that a name can't
mean one thing when it is judged and another when it is asked. Every redirect is judged the same. No
proxy is asked, no cookie kept."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from ravlm.errors import BrokenData, InvalidInput, NotFound

_REDIRECTS = 3
_EMBEDDING = tuple(
    map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
)
"""IPv6 addresses that stand for an IPv4 address, which may be a private one (NAT64, 6to4,
Teredo)."""
Resolve = Callable[[str, int], list[str]]


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotFound(f'There is no host "{host[:100]}": {error}.') from None
    return [str(each[4][0]) for each in found]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return is_public(str(ip.ipv4_mapped))
    embeds = ip.version == 6 and any(ip in network for network in _EMBEDDING)
    return ip.is_global and not (ip.is_multicast or embeds)


class Fetcher:
    """Call it with an address to get the bytes there. `public` judges an IP address."""

    def __init__(
        self,
        most_bytes: int,
        seconds: float = 20.0,
        resolve: Resolve = resolved,
        public: Callable[[str], bool] = is_public,
    ) -> None:
        self._most, self._seconds, self._resolve, self._public = (
            most_bytes,
            seconds,
            resolve,
            public,
        )

    def __call__(self, address: str) -> bytes:
        """The bytes at an http(s) address. Raises InvalidInput, NotFound or BrokenData."""
        deadline = time.monotonic() + self._seconds
        for _ in range(_REDIRECTS + 1):
            found = self._get(address, deadline)
            if isinstance(found, bytes):
                return found
            address = urljoin(address, found)
        raise NotFound(
            f"The picture's address redirects more than {_REDIRECTS} times; give the last one."
        )

    def _get(self, address: str, deadline: float) -> bytes | str:
        """The bytes, or where they have gone."""
        connection, path = self._connection(address, deadline)
        try:
            connection.request("GET", path, headers={"User-Agent": "ravlm", "Accept": "image/*"})
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308):
                return response.headers.get("Location") or ""
            if response.status != 200:
                raise NotFound(f"The picture's address answered {response.status}; check it.")
            return self._read(response, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, NotFound | InvalidInput):
                raise
            raise NotFound(
                f"The picture's address can't be read: {type(error).__name__}; check it."
            ) from None
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        data = bytearray()
        while piece := response.read1(65536):
            data += piece
            if len(data) > self._most:
                raise BrokenData(
                    f"The picture's address sends more than the {self._most:,} bytes allowed."
                )
            if time.monotonic() > deadline:
                raise BrokenData(f"The picture was not received within {self._seconds:g} seconds.")
        return bytes(data)

    def _connection(self, address: str, deadline: float) -> tuple[http.client.HTTPConnection, str]:
        """A connection to an address that was judged, and the path to ask for."""
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise InvalidInput(f"The picture's address can't be read: {error}.") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise InvalidInput(
                "A picture's address is written as https://host/path, without a name and password."
            )
        addresses = self._resolve(host, port)
        if not addresses or not all(map(self._public, addresses)):
            raise InvalidInput(
                f'The host "{host[:100]}" is this machine or in a private network; it is not asked.'
            )
        left = max(0.1, deadline - time.monotonic())
        kind = _PinnedTls if parts.scheme == "https" else _Pinned
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        return kind(host, port, addresses[0], left), path


class _Pinned(http.client.HTTPConnection):
    """Connects to an IP address, and asks it for a host by name."""

    def __init__(self, host: str, port: int, address: str, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)


class _PinnedTls(_Pinned):
    """The same over TLS, with a certificate for the name."""

    default_port = 443

    def connect(self) -> None:
        super().connect()
        self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
