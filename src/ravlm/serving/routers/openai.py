"""The routes that OpenAI's clients call: models, chat completions, embeddings. Checks and
translates; the engine does.

Evidence comes as citations in the fields that clients show (`annotations`, `citations`) and whole
in `evidence`."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from ravlm.errors import InvalidInput
from ravlm.generation.base import pieces
from ravlm.records import Answer
from ravlm.serving import schemas
from ravlm.serving.engine import Asked, Engine
from ravlm.serving.errors import Json, NotFoundError
from ravlm.serving.routers.common import Event, add, base_of, event_stream
from ravlm.serving.wire import annotations_of, citation_urls, count_tokens, hits_json

MODEL = "ravlm"
_MOST_PICTURES = 16


def openai_routes(engine: Engine) -> APIRouter:
    """The routes over an engine."""
    routes, do = APIRouter(tags=["OpenAI-compatible"]), _OpenAI(engine)
    add(routes, "GET", "/v1/models", do.models, schemas.Loose)
    add(routes, "GET", "/v1/models/{id}", do.one_model, schemas.Loose, also=(404,))
    add(routes, "POST", "/v1/chat/completions", do.chat, schemas.Loose, also=(404,), streamed=True)
    add(routes, "POST", "/v1/embeddings", do.embeddings, schemas.Loose, also=(404,))
    return routes


class _OpenAI:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._model = {
            "id": MODEL,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "ravlm",
        }

    async def models(self) -> Response:
        """The models: one, for chat and for embeddings."""
        return Json({"object": "list", "data": [self._model]})

    async def one_model(self, id: str) -> Response:
        """A model."""
        _check_model(id)
        return Json(self._model)

    async def chat(self, body: schemas.ChatBody, request: Request) -> Response:
        """Answer the last message of a talk from the base. What the talk is about is kept from turn
        to turn: the picture that came last, else what was named last."""
        _check_model(body.model)
        _check_pictures(body.messages)
        messages = [await self._message(message) for message in body.messages]
        asked = Asked("chat", None, None, messages, body.k, body.where)
        reply = _Reply(base_of(request), body)
        if body.stream:
            return await event_stream(self._engine.stream(asked), reply.on_piece, reply.on_answer)
        return Json(reply.whole(await self._engine.answer(asked)))

    async def embeddings(self, body: schemas.EmbeddingsBody) -> Response:
        """Unit vectors of texts and pictures, all in one space: cosines tell how alike any two
        are."""
        _check_model(body.model)
        dim = self._engine.library.now.encoder.dim
        if body.dimensions not in (None, dim):
            raise InvalidInput(
                f"dimensions is {body.dimensions}; this encoder gives {dim}, no others."
            )
        inputs = [
            _input(each) for each in ([body.input] if isinstance(body.input, str) else body.input)
        ]
        as_text = body.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": place,
                "embedding": _base64(row) if as_text else row.tolist(),
            }
            for place, row in enumerate(await self._engine.embed(inputs))
        ]
        tokens = sum(count_tokens(value) for kind, value in inputs if kind == "text")
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Json({"object": "list", "data": data, "model": MODEL, "usage": usage})

    async def _message(self, message: schemas.ChatMessage) -> dict[str, Any]:
        """A message as the model takes it, its pictures decoded."""
        role = "system" if message.role == "developer" else message.role
        if not isinstance(message.content, list):
            return {"role": role, "content": message.content or ""}
        parts: list[dict[str, Any]] = []
        for part in message.content:
            if isinstance(part, schemas.TextPart):
                parts.append({"type": "text", "text": part.text})
            else:
                parts.append(
                    {"type": "image", "image": await self._engine.look(part.image_url.url)}
                )
        return {"role": role, "content": parts}


class _Reply:
    """One chat completion, whole or in chunks. Cut off after `max_tokens` words."""

    def __init__(self, base: str, body: schemas.ChatBody) -> None:
        self._base, self._id, self._created = base, f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self._most = min(
            body.max_completion_tokens or body.max_tokens or schemas.MOST_TOKENS,
            schemas.MOST_TOKENS,
        )
        self._counted = body.stream_options is not None and body.stream_options.include_usage
        self._asked = sum(
            count_tokens(text) for message in body.messages for text in _texts(message)
        )
        self._said = 0
        self._begun = False

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The completion."""
        words = pieces(answer.text)
        text, self._said = "".join(words[: self._most]), min(len(words), self._most)
        message = {
            "role": "assistant",
            "content": text,
            "annotations": self._annotations(answer, len(text)),
        }
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self._reason(len(words)),
            "logprobs": None,
        }
        return (
            self._frame("chat.completion", [choice])
            | self._rests_on(answer)
            | {"usage": self._usage()}
        )

    def on_piece(self, piece: str) -> Iterable[Event]:
        """The chunk of a piece; before the first one, the role."""
        words = pieces(piece)
        left = self._most - self._said
        self._said += len(words)
        text = "".join(islice(words, max(0, left)))
        begin = [] if self._begun else [self._chunk({"role": "assistant", "content": ""})]
        self._begun = True
        return chain(begin, [self._chunk({"content": text})] if text else [])

    def on_answer(self, answer: Answer) -> Iterable[Event]:
        """The last chunks: citations and evidence, and the count of tokens where it was asked
        for."""
        begin = [] if self._begun else [self._chunk({"role": "assistant", "content": ""})]
        delta = {"annotations": self._annotations(answer, len(answer.text))}
        last = self._chunk(delta, self._reason(self._said)) | self._rests_on(answer)
        self._said = min(self._said, self._most)
        usage = (
            [self._frame("chat.completion.chunk", []) | {"usage": self._usage()}]
            if self._counted
            else []
        )
        return chain(begin, [last], usage)

    def _reason(self, words: int) -> str:
        return "length" if words > self._most else "stop"

    def _annotations(self, answer: Answer, length: int) -> list[dict[str, Any]]:
        found = annotations_of(answer, self._base)
        return [each for each in found if each["url_citation"]["end_index"] <= max(length, 1)]

    def _rests_on(self, answer: Answer) -> dict[str, Any]:
        return {
            "citations": citation_urls(answer, self._base),
            "evidence": hits_json(answer.evidence, self._base),
            "abstained": answer.abstained,
            "confidence": answer.confidence,
        }

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self._frame("chat.completion.chunk", [choice])

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": MODEL,
            "choices": choices,
        }

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self._asked,
            "completion_tokens": self._said,
            "total_tokens": self._asked + self._said,
        }


def _check_model(name: str) -> None:
    if name != MODEL:
        raise NotFoundError(f'There is no model of this name here; the only one is "{MODEL}".')


def _check_pictures(messages: Iterable[schemas.ChatMessage]) -> None:
    parts = chain.from_iterable(m.content for m in messages if isinstance(m.content, list))
    count = sum(isinstance(part, schemas.ImagePart) for part in parts)
    if count > _MOST_PICTURES:
        raise InvalidInput(
            f"The talk has {count} pictures; at most {_MOST_PICTURES} are taken. Leave early ones out."
        )


def _texts(message: schemas.ChatMessage) -> list[str]:
    if isinstance(message.content, list):
        return [part.text for part in message.content if isinstance(part, schemas.TextPart)]
    return [message.content or ""]


def _input(given: str | schemas.TextPart | schemas.ImagePart) -> tuple[str, str]:
    if isinstance(given, schemas.ImagePart):
        return "image", given.image_url.url
    text = given if isinstance(given, str) else given.text
    if not text.strip():
        raise InvalidInput("An input is empty; give words or a picture.")
    return "text", text


def _base64(row: np.ndarray) -> str:
    """A vector as clients of OpenAI decode it: little-endian float32."""
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")
