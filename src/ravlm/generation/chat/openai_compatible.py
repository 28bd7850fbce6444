"""OpenAI-compatible endpoints as generators: hosted models, vLLM, Ollama, llama.cpp.

The request's image and those of the evidence are sent to the endpoint."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from collections.abc import Generator as Stream
from typing import Any

from ravlm.data.parallel import parallel_map
from ravlm.generation.base import Generator, Request, VerbName
from ravlm.generation.chat.citations import CitationParser
from ravlm.generation.chat.openai_client import Endpoint
from ravlm.generation.chat.openai_http import RetryPolicy
from ravlm.generation.chat.prompts import (
    MAX_NEW_TOKENS,
    THINKING_TOKENS,
    ChatTurn,
    PromptBudget,
    TurnPart,
    abstain_unseen,
    build_prompt,
    checked_max_tokens,
)
from ravlm.records import Answer

_PARALLEL_REQUESTS = 4
_JPEG_QUALITY = 88
_BYTES_PER_TOKEN = 3
"""Of UTF-8. A cautious estimate: English has about 4; Chinese has 3 bytes and less than one token
per character."""
_PIXELS_PER_TOKEN = 28 * 28
"""Of an image. An estimate that fits Qwen's models; others need fewer tokens."""
_TURN_TOKENS = 8
"""Estimated tokens around each message and image."""


class RemoteGenerator(Generator):
    """The model at `http://host:port/v1#model`.

    The key is read from the environment variable OPENAI_API_KEY. `reads_images` says whether the
    model does; if not, `describe` returns what a request's image shows. `max_prompt_tokens` is
    compared with a rough estimate. `max_tokens` limits a reply with its thoughts; the default
    depends on the task. Raises what `Endpoint` raises."""

    talks = True

    def __init__(
        self,
        address: str,
        reads_images: bool = True,
        max_prompt_tokens: int = 8192,
        temperature: float = 0.0,
        retry_policy: RetryPolicy | None = None,
        describe: Callable[[Request], str] | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.endpoint = Endpoint(address, retry_policy)
        self.budget = PromptBudget(max_prompt_tokens, reads_images)
        self.temperature = temperature
        self.max_tokens = checked_max_tokens(max_tokens)
        self.reads_several_images = reads_images
        self._describe = describe
        self._opens_thought = False
        """Whether the endpoint sends thoughts without their start; learned from its replies."""

    @property
    def name(self) -> str:  # type: ignore[override]
        """The address with the model's name."""
        return f"{self.endpoint.address}#{self.endpoint.model}"

    @property
    def fingerprint(self) -> str:
        """Identifies the settings of a request; the name identifies the model."""
        limit = f" {self.max_tokens}" if self.max_tokens else ""
        return f"{self.budget} {self.temperature}{limit}"

    def check_reachable(self) -> None:
        """Raise an error if the endpoint can't be reached, or rejects the key."""
        self.endpoint.check_reachable()

    def token_limit(self, task: VerbName) -> int:
        """Return the maximum number of tokens of a reply."""
        return self.max_tokens or MAX_NEW_TOKENS[task] + THINKING_TOKENS

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return an answer for each request, in order; several are requested in parallel."""
        if requests:
            _ = self.endpoint.model  # looked up once instead of in each thread
        answers = parallel_map(
            self._generate, requests, workers=_PARALLEL_REQUESTS, lookahead=_PARALLEL_REQUESTS
        )
        return list(answers)

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        """Yield pieces of the text as they arrive, and return the answer."""
        if request.image is not None and not self.budget.reads_images and not request.evidence.hits:
            answer = abstain_unseen(request)
            yield answer.text
            return answer
        parser = CitationParser(request, self._opens_thought)
        turns = build_prompt(request, self.budget, estimate_turns, estimate_text, self._describe)
        settings = {
            "max_tokens": self.token_limit(request.task),
            "temperature": self.temperature,
            "seed": request.seed,
        }
        texts = self.endpoint.stream_chat([_message(turn) for turn in turns], settings)
        while True:
            try:
                piece = parser.feed(next(texts))
            except StopIteration as stop:
                end = stop.value
                break
            if piece:
                yield piece
        ending, answer = parser.finish(None, {"model": self.endpoint.model}, end)
        self._opens_thought = self._opens_thought or parser.lacked_start
        if ending:
            yield ending
        return answer

    def _generate(self, request: Request) -> Answer:
        pieces = self.stream(request)
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                return end.value


def estimate_text(text: str) -> int:
    """Estimate the number of tokens of a text."""
    return len(text.encode()) // _BYTES_PER_TOKEN + 1


def estimate_turns(turns: Sequence[ChatTurn]) -> int:
    """Estimate the number of tokens of a prompt."""
    images = (image for turn in turns for image in turn.images)
    image_tokens = sum(
        image.width * image.height // _PIXELS_PER_TOKEN + _TURN_TOKENS for image in images
    )
    return image_tokens + sum(estimate_text(turn.text) + _TURN_TOKENS for turn in turns)


def _message(turn: ChatTurn) -> dict[str, Any]:
    """Return a turn in the OpenAI format; plain text as a string, which every endpoint accepts."""
    if not turn.images:
        return {"role": turn.role, "content": turn.text}
    return {
        "role": turn.role,
        "content": [_message_part(part) for part in turn.parts if part != ""],
    }


def _message_part(part: TurnPart) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
