"""Prometheus metrics: requests, stages, batches."""

from __future__ import annotations

import re
import time
from pathlib import Path

from ravlm.serving.app import create_app
from ravlm.serving.metrics import Metrics
from ravlm.serving.state import ServedModel
from tests.helpers.fakes import FakeEncoder
from tests.helpers.servers import Running, running, url_of


def samples(server: Running) -> dict[str, float]:
    """Return the metrics by name and labels; check that each line has the text format."""
    text = server.client.get("/metrics").text
    line = re.compile(r'([a-z_]+(?:\{(?:[a-z]+="[^"]*",?)+\})?) ([0-9.e+-]+)')
    values = {}
    for row in text.splitlines():
        if not row.startswith("# "):
            match = line.fullmatch(row)
            assert match is not None, row
            values[match[1]] = float(match[2])
    return values


def test_metrics_count_requests_and_stages(kb: Path) -> None:
    with running(kb) as server:
        before = samples(server)
        for color in ("red", "blue"):
            server.post("/v1/search", image=url_of(color))
            server.post("/v1/ask", question="What size is it?", image=url_of(color))
        server.post("/v1/search", text="x", k=0)
        after = samples(server)

    def increase(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert increase('ravlm_requests_total{method="POST",route="/v1/search",status="200"}') == 2
    assert increase('ravlm_requests_total{method="POST",route="/v1/search",status="400"}') == 1
    assert increase('ravlm_request_seconds_count{route="/v1/ask"}') == 2
    assert increase('ravlm_stage_seconds_count{stage="decode"}') == 4
    assert increase('ravlm_stage_seconds_count{stage="generate"}') == 2
    assert increase('ravlm_stage_seconds_count{stage="search"}') >= 4
    assert increase('ravlm_stage_seconds_count{stage="encode"}') >= 4
    assert increase('ravlm_batch_requests_count{lane="encode"}') == 2
    assert after["ravlm_ready"] == 1
    buckets = [
        value
        for name, value in after.items()
        if name.startswith("ravlm_request_seconds_bucket{") and 'route="/v1/ask"' in name
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == after['ravlm_request_seconds_count{route="/v1/ask"}']


def test_nested_stages_are_counted_once() -> None:
    metrics = Metrics()
    with metrics.stage("generate"):
        time.sleep(0.02)
        with metrics.stage("encode"):
            time.sleep(0.05)
    text = metrics.text()
    encode, generate = (
        float(re.search(rf'sum{{stage="{n}"}} (.*)', text)[1]) for n in ("encode", "generate")
    )  # type: ignore[index]
    assert 0.05 <= encode < 0.2
    assert 0.02 <= generate < encode


def test_two_applications_over_one_model(kb: Path) -> None:
    """A registry refuses a metric that it has already; the gauges are replaced instead."""
    served_model = ServedModel(kb, encoder=FakeEncoder())
    for _ in range(2):
        create_app(served_model)
    assert "ravlm_ready 0.0" in served_model.metrics.text()
    served_model.close()
