"""Access to a server: tokens, cross-origin requests, security headers."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx2
import pytest

from ravlm.errors import InvalidInput, NotFound
from ravlm.serving import middleware
from ravlm.serving.settings import Settings, read_token
from tests.helpers.servers import Running, running

TOKEN = "a-token-of-this-test-alone"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_hosts_need_a_token(host: str) -> None:
    with pytest.raises(InvalidInput, match="--token-file"):
        Settings(host=host)
    assert Settings(host=host, token=TOKEN).token == TOKEN
    assert TOKEN not in repr(Settings(token=TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_loopback_needs_no_token(host: str) -> None:
    assert Settings(host=host).token is None


def test_tokens_are_read_and_checked(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "two").write_text("two tokens")
    (tmp_path / "empty").write_text("\n")
    assert read_token(tmp_path / "token", {"RAVLM_TOKEN": "another"}) == TOKEN
    assert read_token(None, {"RAVLM_TOKEN": TOKEN}) == TOKEN
    assert read_token(None, {"RAVLM_TOKEN": ""}) is None
    for name in ("two", "empty"):
        with pytest.raises(InvalidInput, match="exactly one"):
            read_token(tmp_path / name, {})
    with pytest.raises(NotFound, match="openssl"):
        read_token(tmp_path / "nowhere", {})
    with pytest.raises(InvalidInput, match="at least 16"):
        Settings(token="short")


def test_every_path_but_the_page_needs_the_token(kb: Path) -> None:
    with (
        running(kb, Settings(port=0, token=TOKEN)) as server,
        httpx2.Client(base_url=server.address) as stranger,
    ):
        assert server.post("/v1/search", text="red").status_code == 200
        for header in (
            {},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer \xe9"},
        ):
            raw_headers = {key: value.encode("latin-1") for key, value in header.items()}
            refused = stranger.post("/v1/search", json={"text": "red"}, headers=raw_headers)  # type: ignore[arg-type]
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["error"]["type"] == "authentication_error"
        for path in ("/metrics", "/v1/models", "/v1/entries", "/v1/images/red", "/v1/about"):
            assert stranger.get(path).status_code == 401
        for path in ("/", "/health", "/ready", "/openapi.json"):
            assert stranger.get(path).status_code == 200


def test_tokens_are_compared_in_constant_time(kb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client token goes through `compare_digest`; no other comparison rejects it before."""
    comparisons: list[tuple[bytes, bytes]] = []

    def compare(client_token: bytes, token: bytes) -> bool:
        comparisons.append((client_token, token))
        return client_token == token

    monkeypatch.setattr(middleware.hmac, "compare_digest", compare)
    with running(kb, Settings(port=0, token=TOKEN)) as server:
        for token, status in ((TOKEN, 200), (TOKEN[:-1] + "x", 401), ("x", 401)):
            comparisons.clear()
            headers = {"Authorization": f"Bearer {token}"}
            assert server.client.get("/v1/models", headers=headers).status_code == status
            assert comparisons == [(token.encode(), TOKEN.encode())]


def test_other_sites_are_rejected(kb: Path) -> None:
    """A page of another site, open in the browser of a user whose server needs no token, once could
    add entries; with DNS rebinding it could even read them."""
    with running(kb) as server:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Host": "evil.example"},
            {"Host": "evil.example:8000"},
        ):
            refused = server.client.post(
                "/v1/entries", json={"id": "x", "text": "x"}, headers=headers
            )
            assert refused.status_code == 403, headers
        plain = server.client.post(
            "/v1/search", content=b'{"text": "red"}', headers={"content-type": "text/plain"}
        )
        assert plain.status_code == 400
        same_origin = {"Origin": server.address}
        allowed = server.client.post("/v1/search", json={"text": "red"}, headers=same_origin)
        assert allowed.status_code == 200
        assert "access-control-allow-origin" not in allowed.headers
    with running(kb, Settings(port=0, allowed_origins=("https://good.example",))) as server:
        preflight = server.client.options(
            "/v1/search",
            headers={
                "Origin": "https://good.example",
                "Access-Control-Request-Method": "POST",
            },
        )
        assert preflight.headers["access-control-allow-origin"] == "https://good.example"
        headers = {"Origin": "https://good.example"}
        assert (
            server.client.post("/v1/search", json={"text": "red"}, headers=headers).status_code
            == 200
        )
        headers = {"Origin": "https://evil.example"}
        assert (
            server.client.post("/v1/search", json={"text": "red"}, headers=headers).status_code
            == 403
        )


@pytest.mark.parametrize(
    "host",
    [
        "evil.example@localhost",
        "evil.example:80@127.0.0.1:8000",
        "localhost\\evil.example",
        "[::1]evil.example",
        "[::1].evil.example:80",
        "localhost/evil.example",
        "localhost#evil.example",
        "localhost?evil.example",
        "localhost:80:80",
        "localhost:x",
        "local host",
        "::1",
    ],
)
def test_a_host_is_a_name_and_a_port(server: Running, host: str) -> None:
    """`name@localhost`, `[::1]name` and `localhost\\name` passed as names of this machine."""
    assert status_of(server, f"Host: {host}") in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:", "[::1]:80", "[::1]"])
def test_names_of_this_machine_are_accepted(server: Running, host: str) -> None:
    assert status_of(server, f"Host: {host}") == 200


def test_a_request_has_one_host(server: Running) -> None:
    assert status_of(server, "Host: localhost", "Host: evil.example") == 400


def status_of(server: Running, *headers: str) -> int:
    """Return the status of a request with just these headers, sent byte by byte as they are."""
    url = httpx2.URL(server.address)
    with socket.create_connection((url.host, url.port or 80), timeout=20) as connection:
        lines = ["GET /v1/models HTTP/1.1", *headers, "Connection: close", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_cannot_embed_images(server: Running, site: str) -> None:
    """`<img src="http://localhost:8000/v1/images/red">` on any page told whether the entry exists,
    and the size of its image. Browsers send no Origin for it."""
    embedded = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    for path in ("/v1/images/red", "/v1/images/nowhere", "/health", "/page/app.js", "/"):
        refused = server.client.get(path, headers=embedded)
        assert (path, refused.status_code) == (path, 403)
        assert refused.headers["cross-origin-resource-policy"] == "same-origin"
    opened = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.client.get("/", headers=opened).status_code == 200, "a link to the page"
    assert server.client.get("/v1/images/red", headers=opened).status_code == 403
    framed = opened | {"Sec-Fetch-Dest": "iframe"}
    assert server.client.get("/", headers=framed).status_code == 403
    for own in ("same-origin", "none"):
        headers = {"Sec-Fetch-Site": own}
        response = server.client.get("/v1/images/red", headers=headers)
        assert response.status_code == 200
        assert response.headers["cross-origin-resource-policy"] == "same-origin"


def test_an_allowed_site_calls_across_sites(kb: Path) -> None:
    settings = Settings(port=0, allowed_origins=("https://good.example",))
    headers = {"Origin": "https://good.example", "Sec-Fetch-Site": "cross-site"}
    with running(kb, settings) as server:
        assert server.client.get("/v1/images/red", headers=headers).status_code == 200
        headers["Origin"] = "https://evil.example"
        assert server.client.get("/v1/images/red", headers=headers).status_code == 403


def test_security_headers(server: Running) -> None:
    for path in ("/", "/health", "/v1/nowhere", "/v1/models"):
        headers = server.client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
