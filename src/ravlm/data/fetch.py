"""Download images from web addresses: public ones only, within limits of size and time.

Every image at an address goes through here. A host is resolved once, all its IP addresses are
checked, and the connection goes to a checked one, so a name cannot point elsewhere between check
and connection (SSRF). Every redirect is checked the same way. No cookies, no credentials."""

from __future__ import annotations

import base64
import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from ravlm.data.addresses import PRIVATE_VARIABLE, address_policy, is_public, show_address
from ravlm.errors import BrokenData, InvalidInput, NotFound

ResolveHost: TypeAlias = Callable[[str, int], list[str]]
_MAX_REDIRECTS = 3
_REDIRECT_STATUSES = (301, 302, 303, 307, 308)
_CHUNK_BYTES = 65536
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"
"""Characters that a URL may contain as they are, next to letters and digits."""


def fetch_image(address: str, max_bytes: int, seconds: float) -> bytes:
    """Return the bytes at an http(s) address, as `address_policy` allows.

    Raises NotFound for an address that is not fetched or does not answer, InvalidInput for one
    that is malformed, BrokenData for a response that is too large or too slow."""
    policy = address_policy()
    if policy == "none":
        raise NotFound(
            f"The image is at {show_address(address)}, and web addresses are not fetched here."
        )
    allowed = is_public if policy == "public" else bool
    return ImageFetcher(max_bytes, seconds, public=allowed, use_proxies=True)(address)


def resolve_host(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host. Raises NotFound."""
    try:
        records = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotFound(f'There is no host "{host[:100]}": {error}.') from None
    return [str(record[4][0]) for record in records]


class _Proxy(NamedTuple):
    host: str
    port: int
    headers: dict[str, str]


class ImageFetcher:
    """Downloads one address at a time: `fetcher(url)` returns the bytes.

    `seconds` is the deadline of the whole download: name, connection, redirects, header and body.
    `public` decides whether an IP address may be contacted; `resolve` looks up a host. With
    `use_proxies` the proxies of the environment (HTTPS_PROXY ...) are used; a name that only the
    proxy can resolve is left to the proxy's rules."""

    def __init__(
        self,
        max_bytes: int,
        seconds: float = 20.0,
        resolve: ResolveHost = resolve_host,
        public: Callable[[str], bool] = is_public,
        use_proxies: bool = False,
    ) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._resolve = resolve
        self._public = public
        self._use_proxies = use_proxies

    def __call__(self, url: str) -> bytes:
        """Return the bytes at an http(s) address. Raises InvalidInput, NotFound or BrokenData."""
        deadline = time.monotonic() + self._seconds
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                body_or_redirect = self._get(url, deadline)
                if isinstance(body_or_redirect, bytes):
                    return body_or_redirect
                url = urljoin(url, body_or_redirect)
        except TimeoutError:
            raise BrokenData(
                f"{show_address(url)} was not received within {self._seconds:g} seconds."
            ) from None
        raise NotFound(
            f"{show_address(url)} redirects more than {_MAX_REDIRECTS} times; use the final "
            "address."
        )

    def _get(self, url: str, deadline: float) -> bytes | str:
        """Return the body, or the target of a redirect. Raises TimeoutError at the deadline."""
        name = show_address(url)
        connection, target, headers = self._connect(url, deadline)
        try:
            connection.request("GET", quote(target, _URL_CHARACTERS), headers=headers)
            response = connection.getresponse()
            if response.status in _REDIRECT_STATUSES:
                return response.headers.get("Location") or ""
            if response.status != 200:
                raise NotFound(f"{name} answered {response.status}; check the address.")
            return self._read(response, name)
        except (TimeoutError, NotFound):
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise NotFound(
                f"{name} can't be fetched ({reason}); check the address and the network."
            ) from None
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, name: str) -> bytes:
        data = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            data += chunk
            if len(data) > self._max_bytes:
                raise BrokenData(f"{name} sends more than the {self._max_bytes:,} bytes allowed.")
        return bytes(data)

    def _connect(
        self, url: str, deadline: float
    ) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
        """Return a connection to a checked IP address, and the target and headers of a request."""
        parts, host, port = _split_url(url)
        headers = {"User-Agent": "ravlm", "Accept": "image/*"}
        proxy = _find_proxy(parts.scheme, host, port) if self._use_proxies else None
        ip = self._checked_ip(host, port, deadline, behind_proxy=proxy is not None)
        connection_class = _TlsConnection if parts.scheme == "https" else _Connection
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        if proxy is None:
            return connection_class(host, port, ip, deadline), path, headers
        proxy_ip = _resolve_in_time(resolve_host, proxy.host, proxy.port, deadline)[0]
        connection = connection_class(proxy.host, proxy.port, proxy_ip, deadline)
        if parts.scheme == "http":
            return connection, parts._replace(fragment="").geturl(), headers | proxy.headers
        connection.set_tunnel(host, port, proxy.headers)
        return connection, path, headers

    def _checked_ip(self, host: str, port: int, deadline: float, behind_proxy: bool) -> str:
        """Return the IP address to contact; "" for a name that only the proxy resolves."""
        try:
            ips = _resolve_in_time(self._resolve, host, port, deadline)
        except NotFound:
            if behind_proxy:
                return ""
            raise
        if not ips or not all(map(self._public, ips)):
            raise NotFound(
                f'The host "{host[:100]}" is this machine or in a private network, from which no '
                "images are fetched. Give the image itself: a file, or a data URL. If all "
                f"addresses can be trusted, set {PRIVATE_VARIABLE}=1 (no server reads it)."
            )
        return ips[0]


def _split_url(url: str) -> tuple[SplitResult, str, int]:
    """Return the parts, host and port of an http(s) address. Raises InvalidInput."""
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
    return parts, host, port


def _find_proxy(scheme: str, host: str, port: int) -> _Proxy | None:
    """Return the proxy that is set for a host, if any. Raises InvalidInput."""
    address = getproxies().get(scheme)
    if not address or proxy_bypass(f"{host}:{port}"):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname:
        raise InvalidInput(
            f"The variable {scheme}_proxy does not name an HTTP proxy; set it to http://host:port."
        )
    headers = {}
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        encoded = base64.b64encode(credentials.encode()).decode("ascii")
        headers["Proxy-Authorization"] = f"Basic {encoded}"
    return _Proxy(parts.hostname, port, headers)


def _remaining(deadline: float) -> float:
    """Return the seconds up to the deadline. Raises TimeoutError after it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _resolve_in_time(resolve: ResolveHost, host: str, port: int, deadline: float) -> list[str]:
    """Resolve a host in a thread of its own, which a slow name server cannot hold up."""
    results: queue.SimpleQueue[list[str] | NotFound] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(resolve(host, port))
        except NotFound as error:
            results.put(error)

    threading.Thread(target=run, daemon=True, name="ravlm-resolve").start()
    try:
        ips = results.get(timeout=_remaining(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(ips, NotFound):
        raise ips
    return ips


class _Connection(http.client.HTTPConnection):
    """Connects to a given IP address and asks it for the host by name, within a deadline."""

    def __init__(self, host: str, port: int, ip: str, deadline: float) -> None:
        super().__init__(host, port)
        self._ip = ip
        self._deadline = deadline
        self._create_connection = self._connect_to_ip
        """What `http.client` opens its sockets with."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_remaining(self._deadline))
        self.sock = _DeadlineSocket(self._secure(self.sock), self._deadline)

    def _connect_to_ip(self, *_: Any) -> socket.socket:
        return socket.create_connection((self._ip, self.port), _remaining(self._deadline))

    def _secure(self, connected: socket.socket) -> socket.socket:
        return connected


class _TlsConnection(_Connection):
    """The same over TLS; the certificate must be valid for the host name."""

    default_port = 443

    def _secure(self, connected: socket.socket) -> socket.socket:
        context = ssl.create_default_context()
        host = getattr(self, "_tunnel_host", None) or self.host
        return context.wrap_socket(connected, server_hostname=host)


class _DeadlineSocket:
    """A socket whose reads and writes all end at one deadline; a timeout alone starts again with
    every byte."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_remaining(self._deadline))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"  # what `http.client` asks for
        raw = self._socket.makefile("rb", buffering=0)
        return io.BufferedReader(_DeadlineReader(self._socket, raw, self._deadline))

    def close(self) -> None:
        self._socket.close()


class _DeadlineReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, raw: Any, deadline: float) -> None:
        self._socket = connected
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(_remaining(self._deadline))
        length: int | None = self._raw.readinto(buffer)
        return length

    def close(self) -> None:
        self._raw.close()
        super().close()
