"""The routes of the OpenAI API: models, chat completions, embeddings."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from ravlm.data.data_urls import is_data_url
from ravlm.data.text import is_chinese
from ravlm.encoders.truncated import check_dimensions
from ravlm.errors import InvalidInput
from ravlm.generation.multi_image import too_many_images
from ravlm.serving import openai_schemas, response_schemas, schemas
from ravlm.serving.answer_request import AnswerRequest
from ravlm.serving.completions import MODEL, ChatCompletion, count_tokens
from ravlm.serving.engine import Engine
from ravlm.serving.errors import JsonResponse, NotFoundError
from ravlm.serving.routers.common import (
    add_route,
    api_router,
    base_address,
    event_stream,
    image_urls,
)

_MAX_IMAGES = 16
"""Images of one conversation."""


def openai_routes(engine: Engine) -> APIRouter:
    """Return the router over an engine."""
    router = api_router("OpenAI-compatible", engine)
    endpoints = _OpenAIEndpoints(engine)
    body = response_schemas.OpenAIObject
    chat = "/v1/chat/completions"
    add_route(router, "GET", "/v1/models", endpoints.models, body)
    add_route(router, "GET", "/v1/models/{id}", endpoints.model, body, also=(404,))
    add_route(router, "POST", chat, endpoints.chat, body, also=(404,), streamed=True)
    add_route(router, "POST", "/v1/embeddings", endpoints.embeddings, body, also=(404,))
    return router


class _OpenAIEndpoints:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._model = {
            "id": MODEL,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "ravlm",
        }

    async def models(self) -> Response:
        """List the models: one, for chat and for embeddings."""
        return JsonResponse({"object": "list", "data": [self._model]})

    async def model(self, id: str) -> Response:
        """Return a model."""
        _check_model(id)
        return JsonResponse(self._model)

    async def chat(self, body: openai_schemas.ChatBody, request: Request) -> Response:
        """Answer the last message of a conversation from the base. The topic carries over from turn
        to turn: the latest image, else what was named last."""
        _check_model(body.model)
        self._check_images(body.messages)
        messages = [_message(message) for message in body.messages]
        answer_request = AnswerRequest("chat", messages, None, body.k, body.where, body.base_only)
        completion = _completion(body, request)
        if body.stream:
            items = self._engine.stream(answer_request)
            return await event_stream(items, completion.on_piece, completion.on_answer)
        answer = await self._engine.answer(answer_request)
        return JsonResponse(completion.complete(answer))

    async def embeddings(self, body: openai_schemas.EmbeddingsBody) -> Response:
        """Return unit vectors of texts and images in one space; their dot product is the cosine
        similarity."""
        _check_model(body.model)
        dim = self._dimensions(body.dimensions)
        values = body.input if isinstance(body.input, list) else [body.input]
        inputs = [_embed_input(value, body.modality) for value in values]
        vectors = await self._engine.embed(inputs, dim, body.input_type)  # (n, dim)
        is_base64 = body.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _to_base64(vector) if is_base64 else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        texts = [value for kind, value in inputs if kind == "text"]
        num_tokens = await asyncio.to_thread(lambda: sum(map(count_tokens, texts)))
        usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
        return JsonResponse({"object": "list", "data": data, "model": MODEL, "usage": usage})

    def _dimensions(self, dimensions: int | None) -> int:
        """Return the length of the vectors. Raises InvalidInput if the encoder does not have it."""
        encoder = self._engine.served_model.session.encoder
        if dimensions is None:
            return encoder.dim
        check_dimensions(encoder, dimensions)
        return dimensions

    def _check_images(self, messages: Sequence[openai_schemas.ChatMessage]) -> None:
        """Raise InvalidInput for more images than a conversation, or the generator, may have."""
        counts = [_num_images(message) for message in messages]
        if sum(counts) > _MAX_IMAGES:
            raise InvalidInput(
                f"The conversation has {sum(counts)} images; at most {_MAX_IMAGES} are allowed. "
                "Leave out early ones."
            )
        generator = self._engine.served_model.session.model.generator
        latest = next((count for count in reversed(counts) if count), 0)
        if latest > 1 and not generator.reads_several_images:
            text = "\n".join(messages[-1].texts)
            raise InvalidInput(too_many_images(generator, latest, is_chinese(text)))


def _message(message: openai_schemas.ChatMessage) -> dict[str, Any]:
    """Return a message in the form of `AnswerRequest`, with the URLs of its images."""
    if not isinstance(message.content, list):
        return {"role": message.role, "content": message.content or ""}
    content = [
        {"type": "text", "text": part.text}
        if isinstance(part, openai_schemas.TextContent)
        else {"type": "image", "image": part.url}
        for part in message.content
    ]
    return {"role": message.role, "content": content}


def _completion(body: openai_schemas.ChatBody, request: Request) -> ChatCompletion:
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    return ChatCompletion(
        base_address(request),
        image_urls(request),
        [text for message in body.messages for text in message.texts],
        body.token_limit,
        include_usage,
    )


def _check_model(name: str) -> None:
    if name != MODEL:
        raise NotFoundError(f'There is no model of this name; the only one is "{MODEL}".')


def _num_images(message: openai_schemas.ChatMessage) -> int:
    parts = message.content if isinstance(message.content, list) else []
    return sum(isinstance(part, openai_schemas.ImageContent) for part in parts)


def _embed_input(
    value: str | openai_schemas.TextContent | openai_schemas.ImageContent, modality: str | None
) -> tuple[str, str]:
    """Return the kind of an input and its text or URL."""
    if isinstance(value, openai_schemas.ImageContent):
        return "image", value.url
    text = value if isinstance(value, str) else value.text
    if not text.strip():
        raise InvalidInput("An input is empty; give a text or an image.")
    if isinstance(value, str) and modality != "text" and (modality or is_data_url(text)):
        return "image", text
    if len(text) > schemas.MAX_TEXT:
        raise InvalidInput(
            f"An input has {len(text):,} characters; at most {schemas.MAX_TEXT:,} are allowed."
        )
    return "text", text


def _to_base64(vector: np.ndarray) -> str:
    """Return a vector as OpenAI clients decode it: base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
