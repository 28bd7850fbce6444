"""The server as an ASGI application: routes, gates and errors put together over a library.

Any ASGI server runs it; `server.py` runs it with uvicorn. Knows no verb.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from ravlm.errors import RavlmError
from ravlm.serving.engine import Engine
from ravlm.serving.errors import FAULT, refusal, refusal_of, told
from ravlm.serving.middleware import AccessLog, Auth, BodyLimit
from ravlm.serving.routers.entries import entry_routes
from ravlm.serving.routers.health import PAGE, operation_routes
from ravlm.serving.routers.knowledge import knowledge_routes
from ravlm.serving.routers.openai import openai_routes
from ravlm.serving.settings import Settings
from ravlm.serving.state import ServedModel

_ABOUT = (
    "Search, questions and pictures over a knowledge base, with evidence. Pictures in bodies are data URLs. "
    "Errors are one sentence in OpenAI's form. OpenAI's clients work with the base address `/v1` and the model `ravlm`."
)
_DEFAULT = Settings()


def create_app(library: ServedModel, settings: Settings = _DEFAULT) -> FastAPI:
    """The application over `library`; its engine is `app.state.engine`. It is warm some seconds
    after it was started, see `/ready`."""
    engine = Engine(library, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(engine.start())
        yield
        warming.cancel()
        engine.close()

    middleware = [Middleware(AccessLog, engine=engine)]
    if settings.origins:
        middleware.append(
            Middleware(
                CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["*"],
                allow_headers=["authorization", "content-type"],
            )
        )  # fmt: skip
    middleware += [Middleware(Auth, settings=settings), Middleware(BodyLimit, engine=engine)]
    app = FastAPI(
        title="ravlm", version=version("ravlm"), description=_ABOUT, lifespan=lifespan, middleware=middleware,
        docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.engine = engine
    for routes in (openai_routes, knowledge_routes, entry_routes, operation_routes):
        app.include_router(routes(engine))
    app.mount("/page", StaticFiles(directory=PAGE))
    _handle_errors(app)
    app.openapi = lambda: _openapi(app, guarded=settings.token is not None)  # type: ignore[method-assign]
    return app


def _handle_errors(app: FastAPI) -> None:
    """Every error leaves as one sentence in OpenAI's form."""

    @app.exception_handler(RavlmError)
    async def on_purpose(request: Request, error: RavlmError) -> Response:
        return refusal_of(error)

    @app.exception_handler(RequestValidationError)
    async def not_allowed(request: Request, error: RequestValidationError) -> Response:
        sentence, param = told(list(error.errors()))
        return refusal(400, sentence, param)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        sentences = {
            404: "There is nothing at this path; see /docs.",
            405: "This path takes other methods; see /docs.",
        }
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(request))
        return refusal(
            error.status_code, sentences.get(error.status_code, f"{error.detail}."), headers=headers
        )

    @app.exception_handler(Exception)
    async def by_fault(request: Request, error: Exception) -> Response:
        return refusal(500, FAULT)


def _methods(request: Request) -> list[str]:
    """The methods of all routes of a request's path."""
    found: set[str] = set()
    for route in request.app.routes:
        pattern = getattr(route, "path_regex", None)
        if pattern is not None and pattern.match(request.url.path):
            found |= getattr(route, "methods", None) or {"GET", "HEAD"}
    return sorted(found)


def _openapi(app: FastAPI, guarded: bool) -> dict[str, Any]:
    """The OpenAPI description; a body that is not allowed is answered by 400 here, not by FastAPI's
    422."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
    if guarded:
        schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
    app.openapi_schema = schema
    return schema
