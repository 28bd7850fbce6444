"""Faults of the server's own files: 503 or 500, without paths and content."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from ravlm.errors import BrokenData, DamagedBase, DiskError, InvalidInput, Mismatch, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from ravlm.serving.errors import hide_files, public_message, response_to
from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.servers import BlockingGenerator, png, running
from tests.serving.test_addresses import PromptWriter


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('There is no image "/srv/kb/a.png"; check it.', 'There is no image "a.png"; check it.'),
        ("[Errno 2] No such file: '/home/me/kb/x'", "[Errno 2] No such file: 'x'"),
        ('"C:\\Users\\me\\kb\\a.png" and "~/kb/b.png"', '"a.png" and "b.png"'),
        ('"\\\\server\\share\\a.png" is gone', '"a.png" is gone'),
        ('The base "/srv/照片/库" was closed.', 'The base "库" was closed.'),
        ('"/etc/passwd" is not an image (it begins with b\'root:x:0:0:r\').',
         '"passwd" is not an image.'),
        ('"a" (it begins with b"it\'s (odd)") "/b"', '"a" "b"'),
        ('The key "year" has "1/2"; see /docs.', 'The key "year" has "1/2"; see /docs.'),
    ],
)  # fmt: skip
def test_messages_hide_files(message: str, expected: str) -> None:
    assert hide_files(message) == expected
    for kind in (NotFound, BrokenData, Mismatch):
        assert public_message(kind(message)) == expected
    assert public_message(InvalidInput(message)) == message, "that is what the client sent"


@pytest.mark.parametrize("kind", [DamagedBase, DiskError])
def test_faults_of_files_are_no_fault_of_the_request(kind: type[DamagedBase]) -> None:
    response = response_to(kind('The store "/srv/kb/store.sqlite" is damaged (malformed).'))
    assert response.status_code == 503
    message = json.loads(response.body)["error"]["message"]
    assert "srv" not in message
    assert "malformed" not in message


def test_a_damaged_base_is_not_ready(kb: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged store was answered with 400, as if the request were wrong, and /ready stayed at
    200, so that a load balancer continued to send requests."""
    caplog.set_level(logging.INFO, logger="ravlm.serving")
    with running(kb, generator=PromptWriter()) as server:
        assert server.client.get("/ready").status_code == 200
        damage = DamagedBase(f'The store "{kb}/store.sqlite" is damaged (disk image is malformed).')

        def broken_count(*_: object, **__: object) -> int:
            raise damage

        session = server.engine.served_model.session
        session.kb.count = broken_count  # type: ignore[method-assign]
        failed = server.client.get("/v1/about")
        assert failed.status_code == 503
        assert str(kb) not in failed.text
        ready = server.client.get("/ready")
        assert ready.status_code == 503
        assert "damaged" in ready.json()["error"]["message"]
        assert "ravlm_ready 0.0" in server.client.get("/metrics").text
        assert server.post("/v1/search", text="red", k=1).status_code == 200, "what works, works"
        logged = [record.__dict__.get("fields") for record in caplog.records]
        assert {"reason": str(damage)} in logged, "the operator learns what it is"
        del session.kb.count
        assert server.client.post("/v1/verify").json()["sound"]
        assert server.client.get("/ready").status_code == 200, "a sound verification clears it"


def test_a_store_of_garbage_is_a_fault_of_the_server(kb: Path) -> None:
    with running(kb, generator=PromptWriter()) as server:
        store = kb / "store.sqlite"
        for path in (store, kb / "store.sqlite-wal"):
            if path.exists():
                path.write_bytes(b"garbage " * 4096)
        statuses = {server.client.get("/v1/entries").status_code for _ in range(2)}
        assert statuses == {503}
        assert server.client.get("/ready").status_code == 503


def test_a_stored_image_that_is_gone_is_a_fault_of_the_server(kb: Path, tmp_path: Path) -> None:
    """`/v1/images/ID` answered 400 with the path of the file, or its first bytes."""
    files = [tmp_path / "secret" / f"{name}.png" for name in ("gone", "other")]
    files[0].parent.mkdir()
    for file, color in zip(files, ("red", "blue"), strict=True):
        file.write_bytes(png(COLORS[color]))
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        base.add([Entry(file.stem, file, (f"A square {file.stem}",)) for file in files])
    generator = BlockingGenerator()
    generator.go.set()
    with running(kb, generator=generator) as server:
        files[0].unlink()
        files[1].write_text("root:x:0:0:root")
        for file in files:
            failed = server.client.get(f"/v1/images/{file.stem}")
            assert failed.status_code == 500
            patched = server.client.patch(f"/v1/entries/{file.stem}", json={"texts": ["new"]})
            assert patched.status_code == 400
            verified = server.client.post("/v1/verify")
            assert not verified.json()["sound"]
            for response in (failed, patched, verified):
                assert "secret" not in response.text
                assert "root:" not in response.text
            assert f"{file.stem}.png" in verified.text
