"""Any OpenAI-compatible endpoint as a generator: hosted models, vLLM, Ollama, llama.cpp.

It sends the request's pictures and the evidence's to that endpoint. Knows no knowledge base and no
HTTP."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from collections.abc import Generator as Stream
from typing import Any

from PIL import Image

from ravlm.data.parallel import ahead
from ravlm.generation.base import Generator, Request
from ravlm.generation.chat.citations import CitationParser
from ravlm.generation.chat.openai_client import Endpoint, RetryPolicy
from ravlm.generation.chat.prompts import LENGTHS, ChatTurn, PromptBudget, prompt
from ravlm.records import Answer

_AT_ONCE = 4
"""Requests that are under way together."""
_JPEG_QUALITY = 88
_THINKING = 2048
"""Tokens beside those of the answer, for models that think before they speak."""
_BYTES_A_TOKEN = 3
"""Of UTF-8, a cautious guess: English has about 4, Chinese 3 and less than a token a character."""
_PIXELS_A_TOKEN = 28 * 28
"""Of a picture; a guess that suits Qwen's models, and is more than others take."""


class RemoteGenerator(Generator):
    """`address`: `http://host:port/v1#model`; the key comes from the environment variable
    OPENAI_API_KEY.

    `pictures`: whether the model reads pictures. `tokens`: how much is sent at most, by a rough
    count. `temperature`: 0 takes the likeliest words. `describe`: tells a model that reads no
    pictures what one shows. Raises what `Endpoint` raises."""

    def __init__(
        self,
        address: str,
        pictures: bool = True,
        tokens: int = 8192,
        temperature: float = 0.0,
        patience: RetryPolicy | None = None,
        describe: Callable[[Request], str] | None = None,
    ) -> None:
        self.endpoint = Endpoint(address, patience)
        self.limits = PromptBudget(tokens, pictures)
        self.temperature = temperature
        self._describe = describe

    @property
    def name(self) -> str:  # type: ignore[override]
        """The address with the model's name."""
        return f"{self.endpoint.address}#{self.endpoint.model}"

    @property
    def fingerprint(self) -> str:
        """Names what is sent; what answers is named by the address."""
        return f"{self.limits} {self.temperature}"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer for each request, in order, several asked for at once."""
        if requests:
            _ = self.endpoint.model  # asked for once, not by each thread
        return list(ahead(self._generate, requests, _AT_ONCE, _AT_ONCE))

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        """Pieces of the text as they come."""
        citing = CitationParser(request)
        turns = prompt(request, self.limits, _count, _measure, self._describe)
        length = LENGTHS[request.task] + _THINKING
        settings = {"max_tokens": length, "temperature": self.temperature, "seed": request.seed}
        for word in self.endpoint.words([_message(turn) for turn in turns], settings):
            if piece := citing.feed(word):
                yield piece
        last, answer = citing.finish(None, model=self.endpoint.model)
        if last:
            yield last
        return answer

    def _generate(self, request: Request) -> Answer:
        words = self.stream(request)
        while True:
            try:
                next(words)
            except StopIteration as end:
                return end.value


def _message(turn: ChatTurn) -> dict[str, Any]:
    """A turn in the OpenAI form; words alone as a string, which every endpoint takes."""
    if not turn.pictures:
        return {"role": turn.role, "content": turn.text}
    return {"role": turn.role, "content": [_part(part) for part in turn.parts if part != ""]}


def _part(part: str | Image.Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _measure(text: str) -> int:
    return len(text.encode()) // _BYTES_A_TOKEN + 1


def _count(turns: Sequence[ChatTurn]) -> int:
    pictures = (picture for turn in turns for picture in turn.pictures)
    seen = sum(picture.width * picture.height // _PIXELS_A_TOKEN + 8 for picture in pictures)
    return seen + sum(_measure(turn.text) + 8 for turn in turns)
