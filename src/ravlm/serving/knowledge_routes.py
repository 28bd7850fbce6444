"""Search, questions, captions, stories, edits and proof over HTTP. Checks and translates; the engine does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from PIL import Image
from starlette.responses import Response

from ravlm.errors import InvalidInput
from ravlm.serving import schemas
from ravlm.serving.answering import base_of, errors, event_stream
from ravlm.serving.engine import Asked, Engine
from ravlm.serving.pictures import data_url
from ravlm.serving.refusals import Json
from ravlm.serving.wire import answer_json, hits_json


def knowledge_routes(engine: Engine) -> APIRouter:
    """The routes over an engine."""
    routes = APIRouter(tags=["knowledge"])

    async def answered(request: Request, asked: Asked, stream: bool) -> Response:
        base = base_of(request)
        if stream:
            return await event_stream(
                engine.stream(asked),
                lambda piece: [{"piece": piece}],
                lambda answer: [{"answer": answer_json(answer, base)}],
            )
        return Json(answer_json(await engine.answer(asked), base))

    @routes.post("/v1/search", responses={200: {"model": schemas.Hits}, **errors(504)})
    async def search(body: schemas.SearchBody, request: Request) -> Response:
        """Find entries by words, by a picture, or by both."""
        if body.text is None and body.image is None:
            raise InvalidInput("Search for what? Give text, image or both.")
        hits = await engine.search(body.text, body.image, body.k, body.modality, body.where)
        return Json({"hits": hits_json(hits, base_of(request))})

    @routes.post("/v1/ask", responses={200: {"model": schemas.AnswerFound}, **errors(504)})
    async def ask(body: schemas.AskBody, request: Request) -> Response:
        """Answer a question, about a picture or in words alone; with the entries that the answer rests on.

        With `stream`, server-sent events: {"piece": ...} as the words come, {"answer": ...} at last, then [DONE].
        """
        asked = Asked("ask", body.question, await engine.look(body.image), (), body.k, body.where)
        return await answered(request, asked, body.stream)

    @routes.post("/v1/caption", responses={200: {"model": schemas.AnswerFound}, **errors(504)})
    async def caption(body: schemas.CaptionBody, request: Request) -> Response:
        """Describe a picture as pictures like it are described. Streams as `/v1/ask` does."""
        asked = Asked("caption", None, await engine.look(body.image), (), body.k, body.where)
        return await answered(request, asked, body.stream)

    @routes.post("/v1/tell", responses={200: {"model": schemas.AnswerFound}, **errors(504)})
    async def tell(body: schemas.TellBody, request: Request) -> Response:
        """Tell a short story, each sentence with its evidence. Streams as `/v1/ask` does."""
        if body.image is None and body.prompt is None:
            raise InvalidInput("Tell about what? Give image, prompt or both.")
        asked = Asked("tell", body.prompt, await engine.look(body.image), (), body.k, body.where)
        return await answered(request, asked, body.stream)

    @routes.post("/v1/edit", responses={200: {"model": schemas.EditFound}, **errors(501, 504)})
    async def edit(body: schemas.EditBody, request: Request) -> Response:
        """Change a picture by an instruction in words."""
        done = await engine.edit(body.image, body.instruction, body.k, body.seed)
        region = None
        if done.region is not None:
            mask = Image.fromarray(np.uint8(255) * done.region)
            region = await engine.decode(lambda: data_url(mask))
        return Json(
            {
                "image": await engine.decode(lambda: data_url(done.image)),
                "region": region,
                "understood": done.understood,
                "evidence": hits_json(done.evidence, base_of(request)),
            }
        )

    @routes.post("/v1/verify", responses={200: {"model": dict[str, Any]}, **errors(504)})
    async def verify(body: schemas.VerifyBody | None = None) -> Response:
        """Prove the base: counts, checksums, pictures, and a sample of its vectors by encoding again."""
        sample = (body or schemas.VerifyBody()).sample
        report = await engine.change(lambda opened: opened.kb.verify(sample))
        return Json({"sound": report.sound} | asdict(report))

    return routes
