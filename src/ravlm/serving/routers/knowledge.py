"""Routes for search, ask, caption, tell, edit and verify: validate and translate, the engine does
the work."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from fastapi import APIRouter, Request
from PIL import Image
from starlette.responses import Response

from ravlm.errors import InvalidInput
from ravlm.generation.base import VerbName
from ravlm.records import Edit
from ravlm.search.options import SearchOptions
from ravlm.serving import response_schemas, schemas
from ravlm.serving.answer_request import AnswerRequest
from ravlm.serving.engine import Engine
from ravlm.serving.errors import JsonResponse, hide_files
from ravlm.serving.images import data_url
from ravlm.serving.routers.common import add_route, api_router, event_stream, image_urls


def knowledge_routes(engine: Engine) -> APIRouter:
    """Return the router over an engine."""
    router = api_router("Knowledge base", engine)
    endpoints = _KnowledgeEndpoints(engine)
    answer = response_schemas.AnswerResponse
    add_route(router, "POST", "/v1/search", endpoints.search, response_schemas.SearchResponse)
    add_route(router, "POST", "/v1/ask", endpoints.ask, answer, streamed=True)
    add_route(router, "POST", "/v1/caption", endpoints.caption, answer, streamed=True)
    add_route(router, "POST", "/v1/tell", endpoints.tell, answer, streamed=True)
    add_route(
        router, "POST", "/v1/edit", endpoints.edit, response_schemas.EditResponse, also=(501,)
    )
    add_route(router, "POST", "/v1/verify", endpoints.verify, response_schemas.VerifyResponse)
    return router


class _KnowledgeEndpoints:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def search(self, body: schemas.SearchBody, request: Request) -> Response:
        """Find entries by text, by image, or by both."""
        if body.text is None and body.image is None:
            raise InvalidInput("The search has no query; give text, image or both.")
        options = SearchOptions(
            method=body.method,
            min_score=body.min_score,
            rerank=body.rerank,
            group_by=body.group_by,
            relevance=body.relevance,
        )
        hits = await self._engine.search(
            body.text, body.image, body.k, body.modality, body.where, options
        )
        image_url = image_urls(request)
        return JsonResponse({"hits": [hit.to_dict(image_url) for hit in hits]})

    async def ask(self, body: schemas.AskBody, request: Request) -> Response:
        """Answer a question, about an image or in text alone, and cite the entries it is based on.

        With `stream`, the response is server-sent events: {"piece": ...} as the text is generated,
        then {"answer": ...}, then [DONE]."""
        return await self._answer("ask", body.question, body.image, body, request)

    async def caption(self, body: schemas.CaptionBody, request: Request) -> Response:
        """Describe an image, with evidence from the base. Streams like `/v1/ask`."""
        return await self._answer("caption", None, body.image, body, request)

    async def tell(self, body: schemas.TellBody, request: Request) -> Response:
        """Write a short story in which each sentence cites its evidence. Streams like `/v1/ask`."""
        return await self._answer("tell", body.prompt, body.image, body, request)

    async def edit(self, body: schemas.EditBody, request: Request) -> Response:
        """Change an image as an instruction says."""
        edit = await self._engine.edit(body.image, body.instruction, body.k, body.seed)
        images = await self._engine.images.run(lambda: _edit_images(edit))
        return JsonResponse(images | edit.to_dict(image_urls(request)))

    async def verify(self, body: schemas.VerifyBody | None = None) -> Response:
        """Check the base: counts, checksums, images, and a sample of vectors by re-encoding."""
        sample = (body or schemas.VerifyBody()).sample
        report = await self._engine.change(lambda session: session.kb.verify(sample))
        if report.sound:
            self._engine.served_model.is_damaged = False
        findings = [hide_files(finding) for finding in report.findings]
        return JsonResponse({"sound": report.sound} | asdict(report) | {"findings": findings})

    async def _answer(
        self,
        verb: VerbName,
        text: str | None,
        image: str | None,
        body: schemas.AnswerBody,
        request: Request,
    ) -> Response:
        answer_request = AnswerRequest(verb, text, image, body.k, body.where, body.base_only)
        image_url = image_urls(request)
        if body.stream:
            return await event_stream(
                self._engine.stream(answer_request),
                lambda piece: [{"piece": piece}],
                lambda answer: [{"answer": answer.to_dict(image_url)}],
            )
        answer = await self._engine.answer(answer_request)
        return JsonResponse(answer.to_dict(image_url))


def _edit_images(edit: Edit) -> dict[str, str | None]:
    """Return the edited image and its region as data URLs."""
    region = None
    if edit.region is not None:
        region = data_url(Image.fromarray(np.uint8(255) * edit.region))
    return {"image": data_url(edit.image), "region": region}
