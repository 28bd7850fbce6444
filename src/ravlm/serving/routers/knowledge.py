"""Search, questions, captions, stories, edits and proof over HTTP. Checks and translates; the
engine does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from PIL import Image
from starlette.responses import Response

from ravlm.errors import InvalidInput
from ravlm.serving import schemas
from ravlm.serving.engine import Asked, Engine
from ravlm.serving.errors import Json
from ravlm.serving.images import data_url
from ravlm.serving.routers.common import add, base_of, event_stream
from ravlm.serving.wire import answer_json, hits_json


def knowledge_routes(engine: Engine) -> APIRouter:
    """The routes over an engine."""
    routes, do = APIRouter(tags=["knowledge"]), _Knowledge(engine)
    add(routes, "POST", "/v1/search", do.search, schemas.Hits)
    add(routes, "POST", "/v1/ask", do.ask, schemas.AnswerFound, streamed=True)
    add(routes, "POST", "/v1/caption", do.caption, schemas.AnswerFound, streamed=True)
    add(routes, "POST", "/v1/tell", do.tell, schemas.AnswerFound, streamed=True)
    add(routes, "POST", "/v1/edit", do.edit, schemas.EditFound, also=(501,))
    add(routes, "POST", "/v1/verify", do.verify, schemas.Verified)
    return routes


class _Knowledge:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def search(self, body: schemas.SearchBody, request: Request) -> Response:
        """Find entries by words, by a picture, or by both."""
        if body.text is None and body.image is None:
            raise InvalidInput("Search for what? Give text, image or both.")
        hits = await self._engine.search(body.text, body.image, body.k, body.modality, body.where)
        return Json({"hits": hits_json(hits, base_of(request))})

    async def ask(self, body: schemas.AskBody, request: Request) -> Response:
        """Answer a question, about a picture or in words alone; with the entries that the answer
        rests on.

        With `stream`, server-sent events: {"piece": ...} as the words come, {"answer": ...} at
        last, then [DONE]."""
        return await self._answered("ask", body.question, body.image, body, request)

    async def caption(self, body: schemas.CaptionBody, request: Request) -> Response:
        """Describe a picture as pictures like it are described. Streams as `/v1/ask` does."""
        return await self._answered("caption", None, body.image, body, request)

    async def tell(self, body: schemas.TellBody, request: Request) -> Response:
        """Tell a short story, each sentence with its evidence. Streams as `/v1/ask` does."""
        if body.image is None and body.prompt is None:
            raise InvalidInput("Tell about what? Give image, prompt or both.")
        return await self._answered("tell", body.prompt, body.image, body, request)

    async def edit(self, body: schemas.EditBody, request: Request) -> Response:
        """Change a picture by an instruction in words."""
        done = await self._engine.edit(body.image, body.instruction, body.k, body.seed)

        def encoded() -> dict[str, Any]:
            mask = None if done.region is None else Image.fromarray(np.uint8(255) * done.region)
            return {
                "image": data_url(done.image),
                "region": None if mask is None else data_url(mask),
            }

        evidence = hits_json(done.evidence, base_of(request))
        return Json(
            await self._engine.decode(encoded)
            | {"understood": done.understood, "evidence": evidence}
        )

    async def verify(self, body: schemas.VerifyBody | None = None) -> Response:
        """Prove the base: counts, checksums, pictures, and a sample of its vectors by encoding
        again."""
        sample = (body or schemas.VerifyBody()).sample
        report = await self._engine.change(lambda opened: opened.kb.verify(sample))
        return Json({"sound": report.sound} | asdict(report))

    async def _answered(
        self,
        task: str,
        text: str | None,
        image: str | None,
        body: schemas.Reading,
        request: Request,
    ) -> Response:
        asked = Asked(task, text, await self._engine.look(image), (), body.k, body.where)
        base = base_of(request)
        if body.stream:
            return await event_stream(
                self._engine.stream(asked),
                lambda piece: [{"piece": piece}],
                lambda answer: [{"answer": answer_json(answer, base)}],
            )
        return Json(answer_json(await self._engine.answer(asked), base))
