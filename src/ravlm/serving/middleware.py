"""ASGI middleware that every request passes: access log and authorization.

The order, outermost first: AccessLog, Auth, then BodyLimit of `request_body`."""

from __future__ import annotations

import hmac
import re
import time
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ravlm.serving.engine import Engine
from ravlm.serving.errors import HttpError, response_to
from ravlm.serving.logs import log
from ravlm.serving.settings import Settings, is_loopback

PUBLIC_PATHS = ("/", "/health", "/ready", "/docs", "/openapi.json")
"""Paths that need no token: they reveal nothing about the base, and the page asks for the token."""
PUBLIC_FOLDER = "/page/"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", _CONTENT_SECURITY_POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{0,5})?", re.ASCII)
"""A Host header: a name or an address, and a port."""
_OTHER_SITES = ("cross-site", "same-site")
"""Values of Sec-Fetch-Site for pages of another origin. Another port of this machine is the same
site."""
MAX_LENGTH_DIGITS = 15
"""Digits of a Content-Length header; a longer one is not parsed."""


def header(scope: Scope, name: bytes) -> str:
    """Return a header of the request, or an empty string."""
    values = (value.decode("latin-1") for key, value in scope["headers"] if key == name)
    return next(values, "")


class AccessLog:
    """Counts and logs each request, and adds security headers to each response."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app = app
        self.metrics = engine.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_SECURITY_HEADERS]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - start)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "none"
        if scope["path"].startswith(PUBLIC_FOLDER) and status < 400:
            route = "/page"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        length = header(scope, b"content-length")
        is_number = length.isdecimal() and len(length) <= MAX_LENGTH_DIGITS
        log(
            "request",
            method=method,
            route=route,
            status=status,
            seconds=round(seconds, 4),
            body=int(length) if is_number else None,
        )


class Auth:
    """Checks the bearer token and rejects cross-origin requests.

    Without a token everyone on this machine has access. Web pages of other sites in a browser on
    this machine must not: they are recognized by `Origin`, where they only embed something (an
    image, say) by `Sec-Fetch-Site`, and after DNS rebinding by `Host`."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._allowed_origins = settings.allowed_origins
        self._host = settings.host.strip("[]").lower()
        self._token = settings.token.encode() if settings.token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except HttpError as error:
                await response_to(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        host = _host_name(scope)
        self._check_origin(scope)
        if self._token is None:
            self._check_host(host)
        elif not _is_public(scope["path"]) and scope["method"] != "OPTIONS":
            self._check_token(scope, self._token)

    def _check_origin(self, scope: Scope) -> None:
        origin = header(scope, b"origin")
        if origin in self._allowed_origins:
            return
        is_embedded = header(scope, b"sec-fetch-site") in _OTHER_SITES and not _opens_page(scope)
        if is_embedded or (origin and urlsplit(origin).netloc != header(scope, b"host")):
            raise HttpError(
                403,
                "Pages of other sites may not call this server; to allow one, start the server "
                "with --allow-origin.",
            )

    def _check_host(self, host: str) -> None:
        if not (is_loopback(host) or host == self._host):
            raise HttpError(
                403, "Without a token this server only answers as localhost or 127.0.0.1."
            )

    def _check_token(self, scope: Scope, token: bytes) -> None:
        scheme, _, credentials = header(scope, b"authorization").partition(" ")
        client_token = credentials.strip().encode("latin-1", "replace")
        is_valid = hmac.compare_digest(client_token, token)
        if not (is_valid and scheme.lower() == "bearer"):
            raise HttpError(
                401, "The token is missing or wrong; send the header Authorization: Bearer TOKEN."
            )


def _host_name(scope: Scope) -> str:
    """Return the host that a request is for; "" if it names none. Raises HttpError (400)."""
    hosts = [value for key, value in scope["headers"] if key == b"host"]
    if not hosts or hosts == [b""]:
        return ""
    match = _HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
    if match is None:
        raise HttpError(400, "The Host header must be one host name or address, with its port.")
    return (match["ipv6"] or match["name"]).lower()


def _opens_page(scope: Scope) -> bool:
    """Return whether a link of another site opens a page of this server, which reveals nothing."""
    return (
        scope["method"] == "GET"
        and _is_public(scope["path"])
        and header(scope, b"sec-fetch-mode") == "navigate"
        and header(scope, b"sec-fetch-dest") == "document"
    )


def _is_public(path: str) -> bool:
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_FOLDER)
