"""The messages of a talk, in the OpenAI form, as records. Knows no knowledge base and no
generator."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from ravlm.errors import InvalidInput
from ravlm.records import ImageSource, Message

_ROLES = ("system", "user", "assistant")


def read_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Check and read `{"role": ..., "content": ...}` messages; content is a string, or a list of
    parts `{"type": "text", "text": ...}` and `{"type": "image_url", "image_url": {"url": ...}}` (a
    path, an address or a data: URL; `{"type": "image", "image": ...}` takes any image). Raises
    InvalidInput."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise InvalidInput(
            'A talk is a list of messages such as {"role": "user", "content": "What is this?"}.'
        )
    read = tuple(_read(message, place) for place, message in enumerate(messages))
    if read[-1].role != "user":
        raise InvalidInput(
            f'The last message has the role "{read[-1].role}"; one of the role "user" must come last.'
        )
    if not read[-1].text.strip():
        raise InvalidInput("The last message has no words; write what you want to know.")
    return read


def picture_of(messages: Sequence[Message]) -> ImageSource | None:
    """The picture that came last."""
    return next(
        (message.image for message in reversed(messages) if message.image is not None), None
    )


def _read(message: Mapping[str, Any], place: int) -> Message:
    if not isinstance(message, Mapping) or "content" not in message:
        raise InvalidInput(
            f'Message {place} of the talk is {message!r}; give an object with "role" and "content".'
        )
    role, content = message.get("role"), message["content"]
    if role not in _ROLES:
        raise InvalidInput(
            f"Message {place} of the talk has the role {role!r}; allowed: {', '.join(_ROLES)}."
        )
    if isinstance(content, str):
        return Message(role, content)
    if not isinstance(content, Sequence):
        raise InvalidInput(
            f"The content of message {place} is neither a string nor a list of parts."
        )
    texts: list[str] = []
    image: ImageSource | None = None
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            image = _from_url(part.get("image_url"), place)
        elif kind == "image" and part.get("image") is not None:
            image = part["image"]
        else:
            raise InvalidInput(
                f'A part of message {place} is {part!r}; allowed: {{"type": "text", "text": ...}} and '
                '{"type": "image_url", "image_url": {"url": ...}}.'
            )
    return Message(role, "\n".join(texts), image)


def _from_url(value: Any, place: int) -> ImageSource:
    url = value.get("url") if isinstance(value, Mapping) else value
    if not isinstance(url, str) or not url:
        raise InvalidInput(
            f"The picture of message {place} has no url; give a path, an address or a data: URL."
        )
    if not url.startswith("data:"):
        return url
    head, _, data = url.partition(",")
    if not head.endswith(";base64"):
        raise InvalidInput(
            f"The data: URL of message {place} is not in base64; encode the picture so."
        )
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise InvalidInput(f"The data: URL of message {place} is damaged: {error}.") from None
