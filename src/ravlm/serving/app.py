"""The server as an ASGI application: routers, middleware and error handlers over a `ServedModel`.

Any ASGI server runs it; `server.py` runs it with uvicorn."""

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
from ravlm.serving.errors import (
    SERVER_FAULT,
    describe_validation_errors,
    error_response,
    response_to,
)
from ravlm.serving.middleware import AccessLog, Auth
from ravlm.serving.request_body import BodyLimit
from ravlm.serving.routers.entries import entry_routes
from ravlm.serving.routers.health import PAGE, operation_routes
from ravlm.serving.routers.knowledge import knowledge_routes
from ravlm.serving.routers.openai import openai_routes
from ravlm.serving.settings import Settings
from ravlm.serving.state import ServedModel

_DESCRIPTION = (
    "Search, ask, caption, write stories and edit images over a knowledge base, with evidence. "
    "Images in requests are data URLs. Errors are one sentence, in the form of the OpenAI API. "
    "OpenAI clients work with the base address `/v1` and the model `ravlm`."
)
_HTTP_MESSAGES = {
    404: "There is nothing at this path; see /docs.",
    405: "This path does not allow the method; see /docs.",
}
_DEFAULT_SETTINGS = Settings()


def create_app(served_model: ServedModel, settings: Settings = _DEFAULT_SETTINGS) -> FastAPI:
    """Return the application over `served_model`; its engine is `app.state.engine`.

    After startup the models are warmed up for some seconds; `/ready` tells when this is done.

    >>> app = create_app(ServedModel("kb"))  # doctest: +SKIP
    """
    engine = Engine(served_model, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warmup = asyncio.create_task(engine.warm_up())
        yield
        warmup.cancel()
        engine.close()

    app = FastAPI(
        title="ravlm",
        version=version("ravlm"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        middleware=_middleware(engine, settings),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.engine = engine
    for routes in (openai_routes, knowledge_routes, entry_routes, operation_routes):
        app.include_router(routes(engine))
    app.mount("/page", StaticFiles(directory=PAGE))
    _handle_errors(app)
    app.openapi = lambda: _openapi(app, settings.token is not None)  # type: ignore[method-assign]
    return app


def _middleware(engine: Engine, settings: Settings) -> list[Middleware]:
    """Return the middleware, outermost first."""
    middleware = [Middleware(AccessLog, engine=engine)]
    if settings.allowed_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["*"],
            allow_headers=["authorization", "content-type"],
        )
        middleware.append(cors)
    middleware.append(Middleware(Auth, settings=settings))
    middleware.append(Middleware(BodyLimit, engine=engine))
    return middleware


def _handle_errors(app: FastAPI) -> None:
    """Answer every error with one sentence, in the form of the OpenAI API."""

    @app.exception_handler(RavlmError)
    async def on_ravlm_error(request: Request, error: RavlmError) -> Response:
        return response_to(error)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
        message, param = describe_validation_errors(list(error.errors()))
        return error_response(400, message, param)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        headers = dict(error.headers or {})
        if status == 405:
            headers["Allow"] = ", ".join(_allowed_methods(request))
        return error_response(status, _HTTP_MESSAGES.get(status, f"{error.detail}."), None, headers)

    @app.exception_handler(Exception)
    async def on_server_fault(request: Request, error: Exception) -> Response:
        return error_response(500, SERVER_FAULT)


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes that match the path of a request."""
    methods: set[str] = set()
    for route in request.app.routes:
        pattern = getattr(route, "path_regex", None)
        if pattern is not None and pattern.match(request.url.path):
            methods |= getattr(route, "methods", None) or {"GET", "HEAD"}
    return sorted(methods)


def _openapi(app: FastAPI, needs_token: bool) -> dict[str, Any]:
    """Return the OpenAPI description. Invalid bodies get 400 here, not 422 as FastAPI assumes."""
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
    if needs_token:
        schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
    app.openapi_schema = schema
    return schema
