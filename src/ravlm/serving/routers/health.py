"""What those who run the server look at: health, readiness, metrics; and the pages for people.
Knows no verb."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, PlainTextResponse, Response

from ravlm.serving import schemas
from ravlm.serving.engine import Engine
from ravlm.serving.errors import Json, refusal

PAGE = Path(__file__).parent.with_name("page")


def operation_routes(engine: Engine) -> APIRouter:
    """The routes over an engine."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/health", responses={200: {"model": schemas.Loose}})
    async def health() -> Response:
        """200 as long as the process answers."""
        return Json({"status": "ok"})

    @routes.get(
        "/ready",
        responses={200: {"model": schemas.Loose}, 503: {"description": "Not yet, or no more"}},
    )
    async def ready() -> Response:
        """200 only while requests are served."""
        if engine.ready:
            return Json({"status": "ready"})
        why = "The server is stopping." if engine.stopping else engine.cold_reason
        return refusal(503, why, headers={"Retry-After": "1"})

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters and histograms as Prometheus reads them."""
        return PlainTextResponse(engine.metrics.text(), media_type="text/plain; version=0.0.4")

    @routes.get("/v1/about", responses={200: {"model": schemas.Loose}})
    async def about() -> Response:
        """What is served: how many entries, which encoder and generator."""
        opened = engine.library.now
        found = await engine.read(lambda now: now.kb.count())
        names = {"encoder": opened.encoder.name, "generator": opened.model.writer.name}
        languages = [*opened.encoder.languages, *opened.encoder.glosses]
        return Json({"entries": found, "k": opened.model.k, "languages": languages} | names)

    @routes.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(PAGE / "docs.html")

    return routes
