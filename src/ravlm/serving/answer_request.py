"""A request for an answer: its images as URLs, and decoded once it has its place in the queue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from PIL import Image

from ravlm.generation.base import VerbName


class AnswerKey(NamedTuple):
    """Answers with equal keys share a batch; `where` is JSON."""

    verb: VerbName
    k: int | None
    where: str
    base_only: bool


@dataclass(frozen=True)
class AnswerRequest:
    """One request for an answer."""

    verb: VerbName
    text: str | Sequence[dict[str, Any]] | None = None
    """The question or prompt; for chat the messages in the OpenAI form. An image in them is a URL
    until `with_images`."""
    image: Image.Image | str | None = None
    """An image, or the URL of one."""
    k: int | None = None
    where: Any = None
    base_only: bool = True

    @property
    def image_urls(self) -> list[str]:
        """The URLs of its images, in order."""
        urls = [self.image] if isinstance(self.image, str) else []
        return urls + [
            part["image"] for part in self._image_parts if isinstance(part["image"], str)
        ]

    @property
    def _messages(self) -> Sequence[dict[str, Any]]:
        return () if self.text is None or isinstance(self.text, str) else self.text

    @property
    def _image_parts(self) -> list[dict[str, Any]]:
        contents = (message["content"] for message in self._messages)
        parts = (part for content in contents if isinstance(content, list) for part in content)
        return [part for part in parts if part["type"] == "image"]

    def with_images(self, images: Sequence[Image.Image]) -> AnswerRequest:
        """Return the request with the images of its URLs."""
        remaining = iter(images)
        image = next(remaining) if isinstance(self.image, str) else self.image
        if not self._image_parts:
            return replace(self, image=image)

        def loaded(content: Any) -> Any:
            if not isinstance(content, list):
                return content
            return [
                part | {"image": next(remaining)} if part["type"] == "image" else part
                for part in content
            ]

        messages = [message | {"content": loaded(message["content"])} for message in self._messages]
        return replace(self, text=messages, image=image)

    @property
    def query_text(self) -> str:
        """The text that the base will be searched with, if any: a question or the last message."""
        if self.image is not None or not self.text:
            return ""
        if isinstance(self.text, str):
            return self.text
        content = self.text[-1]["content"]
        return content if isinstance(content, str) else ""

    @property
    def key(self) -> AnswerKey:
        """The key of its batch."""
        return AnswerKey(self.verb, self.k, json.dumps(self.where), self.base_only)
