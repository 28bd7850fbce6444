"""Routes for operators (health, readiness, metrics) and the web pages."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, PlainTextResponse, Response

from ravlm.serving import response_schemas
from ravlm.serving.engine import Engine
from ravlm.serving.errors import JsonResponse, error_response
from ravlm.serving.metrics import CONTENT_TYPE

PAGE = Path(__file__).parent.with_name("page")


def operation_routes(engine: Engine) -> APIRouter:
    """Return the router over an engine."""
    router = APIRouter(tags=["Operations"])

    @router.get("/health", responses={200: {"model": response_schemas.OpenAIObject}})
    async def health() -> Response:
        """Return 200 while the process responds."""
        return JsonResponse({"status": "ok"})

    @router.get(
        "/ready",
        responses={
            200: {"model": response_schemas.OpenAIObject},
            503: {"description": "Starting, stopping, or the base is damaged"},
        },
    )
    async def ready() -> Response:
        """Return 200 while requests are served and the base is not damaged."""
        if engine.sound:
            return JsonResponse({"status": "ready"})
        return error_response(503, engine.unready_reason, headers={"Retry-After": "1"})

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return counters and histograms in the Prometheus text format."""
        return PlainTextResponse(engine.metrics.text(), media_type=CONTENT_TYPE)

    @router.get("/v1/about", responses={200: {"model": response_schemas.OpenAIObject}})
    async def about() -> Response:
        """Return what is served: number of entries, encoder, generator, k and languages."""
        session = engine.served_model.session
        num_entries = await engine.read(lambda session: session.kb.count())
        body = {
            "entries": num_entries,
            "k": session.model.k,
            "languages": [*session.encoder.languages, *session.encoder.glosses],
            "encoder": session.encoder.name,
            "generator": session.model.generator.name,
        }
        return JsonResponse(body)

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(PAGE / "docs.html")

    return router
