"""Requests take a place first; their images are decoded later, and shrunk to what a model reads."""

from __future__ import annotations

import io
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from ravlm.serving.images import MODEL_PIXELS, ImageReader
from ravlm.serving.settings import RequestLimits, Settings
from tests.helpers.servers import BlockingGenerator, png, running, url_of


def wait_until_ready(client: httpx2.Client) -> None:
    while client.get("/ready").status_code != 200:
        time.sleep(0.01)


def test_a_full_queue_refuses_before_it_decodes(kb: Path) -> None:
    """Chat decoded up to 16 images in full size before it queued: 40 requests of 264 kB took
    9.9 GB."""
    generator = BlockingGenerator()
    limits = RequestLimits(waiting=2, batch=1)
    with running(kb, Settings(port=0, limits=limits), generator, wait=False) as server:
        generator.go.set()
        wait_until_ready(server.client)
        generator.go.clear()
        ask = {"question": "What is the red square?"}
        responses: list[httpx2.Response] = []
        threads = [
            threading.Thread(
                target=lambda: responses.append(server.client.post("/v1/ask", json=ask))
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while server.engine._answer_batcher.num_waiting < 2:
            time.sleep(0.01)
        damaged = {"type": "image_url", "image_url": {"url": url_of(b"no image")}}
        messages = [{"role": "user", "content": [damaged]}]
        late = server.post("/v1/chat/completions", model="ravlm", messages=messages)
        assert late.status_code == 429  # 400 would tell that the image was looked at
        assert server.post("/v1/caption", image=url_of(b"no image")).status_code == 429
        assert server.engine.images.reader.pool.pids == []
        generator.go.set()
        for thread in threads:
            thread.join()
        assert [response.status_code for response in responses] == [200] * 3
        refused = server.post("/v1/chat/completions", model="ravlm", messages=messages)
        assert (refused.status_code, "can't be read" in refused.text) == (400, True)


def test_images_of_a_conversation_reach_the_model_small(kb: Path, monkeypatch: Any) -> None:
    sizes: list[tuple[int, int]] = []
    decode = ImageReader.decode_for_model

    def decode_and_record(self: ImageReader, *arguments: Any) -> Image.Image:
        image = decode(self, *arguments)
        sizes.append(image.size)
        return image

    monkeypatch.setattr(ImageReader, "decode_for_model", decode_and_record)
    generator = BlockingGenerator()
    generator.go.set()
    with running(kb, None, generator) as server:
        content = [
            {"type": "text", "text": "What is in the image?"},
            {"type": "image_url", "image_url": url_of(png((220, 30, 30), (2000, 1500)))},
        ]
        reply = server.post(
            "/v1/chat/completions", model="ravlm", messages=[{"role": "user", "content": content}]
        )
        assert reply.status_code == 200
        assert reply.json()["evidence"][0]["id"] == "red"
    assert [width * height <= MODEL_PIXELS for width, height in sizes] == [True]


def test_the_deadline_includes_decoding(kb: Path) -> None:
    """A request that waited for its images was never answered by 504."""
    generator = BlockingGenerator()
    generator.go.set()
    go = threading.Event()
    with running(kb, None, generator) as server:
        engine = server.engine
        engine.limits = engine.streams._limits = replace(engine.limits, seconds=0.5)
        stuck = [engine.images._decode_threads.submit(go.wait, 20) for _ in range(9)]
        red = url_of("red")
        statuses = [
            server.post("/v1/search", image=red).status_code,
            server.post("/v1/ask", question="What?", image=red, stream=True).status_code,
            server.client.get("/v1/images/red").status_code,
        ]
        go.set()
        for future in stuck:
            future.result()
        assert statuses == [504] * 3


def test_the_images_of_a_request_have_a_limit_together(kb: Path) -> None:
    limits = RequestLimits(request_pixels=10_000)
    generator = BlockingGenerator()
    generator.go.set()
    with running(kb, Settings(port=0, limits=limits), generator) as server:
        for count, status in ((3, 200), (4, 400)):
            urls = [url_of(png((number, 0, 0))) for number in range(count)]  # 3,072 pixels each
            reply = server.post("/v1/embeddings", model="ravlm", input=urls)
            assert reply.status_code == status
        assert "10,000 pixels together" in reply.text
        bodies = [{"id": str(number), "image": url} for number, url in enumerate(urls)]
        assert server.post("/v1/entries", entries=bodies).status_code == 400


def test_a_stop_during_a_decode_ends_it(kb: Path) -> None:
    """The process waited for its threads after SIGTERM: up to 173 s for one image."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((6300, 6300), np.uint16)).save(buffer, "PNG", compress_level=1)
    body = {"entries": [{"id": str(n), "image": url_of(buffer.getvalue())} for n in range(8)]}
    statuses: list[int] = []

    def upload(address: str) -> None:
        with suppress(httpx2.HTTPError):  # the server closes the connection
            statuses.append(httpx2.post(f"{address}/v1/entries", json=body).status_code)

    generator = BlockingGenerator()
    generator.go.set()
    with running(kb, Settings(port=0, grace=0.2), generator) as server:
        thread = threading.Thread(target=upload, args=(server.address,))
        thread.start()
        pool = server.engine.images.reader.pool
        while not pool.pids:
            time.sleep(0.01)
        time.sleep(0.2)
        assert server.engine.busy
        start = time.process_time()
        server.server.should_exit = True
        thread.join(30)
        while server.engine.busy:
            time.sleep(0.01)
        assert time.process_time() - start < 10
        assert pool.pids == []
    assert 200 not in statuses
