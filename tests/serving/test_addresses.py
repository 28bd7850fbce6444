"""Web addresses of images: those that clients send, and those that the base stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ravlm.data.addresses import address_policy
from ravlm.generation.base import Generator, Request
from ravlm.generation.chat.prompts import PromptBudget, build_prompt
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Answer, AnswerStream, Entry
from ravlm.serving.settings import Settings
from ravlm.serving.state import ServedModel, Session
from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.servers import png, running, url_of

SETTINGS = {
    "off": Settings(port=0),
    "on": Settings(port=0, fetch_images=True),
}


class PromptWriter(Generator):
    """Writes a prompt with the images of its evidence, as a chat model gets it."""

    name = "prompt writer"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        for request in requests:
            build_prompt(request, PromptBudget(100_000), lambda turns: 0, len)
        return [Answer("A lake.", request.evidence.hits) for request in requests]


@contextmanager
def image_site() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server of images in the private network, and the paths asked for."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png(COLORS["blue"]))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.2", 0), Handler) as site:
        threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.2:{site.server_address[1]}", requests
        site.shutdown()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_client_cannot_have_private_addresses_fetched(kb: Path, settings: Settings) -> None:
    with image_site() as (site, requests), running(kb, settings, PromptWriter()) as server:
        port = site.rpartition(":")[2]
        for address in (site, f"http://localhost:{port}", f"http://[::ffff:7f00:2]:{port}"):
            refused = server.post("/v1/caption", image=f"{address}/cat.png")
            assert refused.status_code == 400
            reason = "private network" if settings.fetch_images else "no addresses"
            assert reason in refused.json()["error"]["message"]
        content = [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": f"{site}/cat.png"}},
        ]
        body = {"model": "ravlm", "messages": [{"role": "user", "content": content}]}
        assert server.post("/v1/chat/completions", **body).status_code == 400
        assert requests == []


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_no_verb_fetches_a_stored_private_address(
    kb: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edit, verify, PATCH and the warm-up fetched the addresses that a base stores, with
    `--fetch-images` off: a base from elsewhere sent requests into the private network."""
    with image_site() as (site, requests):
        monkeypatch.setenv("RAVLM_PRIVATE_ADDRESSES", "1")  # a server ignores it
        texts = ("Name: blue lake\nA blue lake under a sunset.",)
        with KnowledgeBase.open(kb, FakeEncoder()) as base:
            base.add([Entry(f"lake {n}", f"{site}/{n}.png", texts, {"n": n}) for n in range(3)])
        assert requests
        requests.clear()
        with running(kb, settings, PromptWriter()) as server:
            image = url_of("blue")
            assert server.post("/v1/search", text="a blue lake", k=5).status_code == 200
            assert server.post("/v1/ask", question="What is it?", image=image).status_code == 200
            assert server.post("/v1/tell", prompt="blue lake", stream=True).status_code == 200
            if not settings.fetch_images:
                order = "make it like a blue lake"
                assert server.post("/v1/edit", image=image, instruction=order).status_code == 200
            report = server.client.post("/v1/verify").json()
            patch = {"texts": ["Name: blue pond"]}
            changed = server.client.patch("/v1/entries/lake 0", json=patch)
            response = server.client.get("/v1/images/lake 1")
        assert requests == []
        assert changed.status_code == 400
        assert response.status_code == (502 if settings.fetch_images else 404)
        if not settings.fetch_images:
            assert report["sound"], report
            assert "--fetch-images" in response.json()["error"]["message"]


def test_a_stream_has_the_policy_of_its_server_and_nothing_else_has() -> None:
    served_model = ServedModel.__new__(ServedModel)  # without a base
    served_model.addresses = "none"
    served_model._session = None  # type: ignore[assignment]

    def task(_: Session) -> AnswerStream:
        def pieces() -> AnswerStream:
            yield address_policy()
            return Answer(address_policy())

        return pieces()

    stream = served_model.stream(task)
    assert next(stream) == "none"
    assert address_policy() == "public", "the policy does not leak into the reader"
    with pytest.raises(StopIteration) as end:
        next(stream)
    assert end.value.value.text == "none"
    assert address_policy() == "public"
