"""Read the messages of a conversation, in the OpenAI form, as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ravlm.data.data_urls import decode_data_url
from ravlm.data.text import check_unicode
from ravlm.errors import InvalidInput
from ravlm.records import ImageSource, Message

_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "developer": "system",
    "tool": "assistant",
    "function": "assistant",
}
"""Role of a message -> role in a prompt. Results of tools are what the assistant knew."""

Conversation: TypeAlias = "Sequence[Mapping[str, Any]]"


def read_messages(messages: Conversation) -> tuple[Message, ...]:
    """Check messages `{"role": ..., "content": ...}` and return them as records.

    Content is a string or a list of parts: `{"type": "text", "text": ...}`, `{"type": "image_url",
    "image_url": {"url": ...}}` with a path, an http(s) address or a data: URL, or `{"type":
    "image", "image": ...}` with any image. Roles are system (or developer), user, assistant, and
    tool (or function); a message of the assistant that only calls tools may lack its content.
    Raises InvalidInput for anything else, and unless the last message is a user's and has text.

    >>> read_messages([{"role": "user", "content": "What is this?"}])[0].text
    'What is this?'
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise InvalidInput(
            'A conversation is a list of messages such as {"role": "user", "content": "Hello"}.'
        )
    records = tuple(_read_message(message, index) for index, message in enumerate(messages))
    if records[-1].role != "user":
        raise InvalidInput(
            f'The last message has the role "{records[-1].role}"; the last one must be a user\'s.'
        )
    if not records[-1].text.strip():
        raise InvalidInput("The last message has no text; write what you want to know.")
    for record in records:
        check_unicode(record.text)
    return records


def is_conversation_batch(messages: Any) -> bool:
    """Return whether `messages` is a list of conversations rather than a single one."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return False
    return isinstance(messages[0], Sequence) and not isinstance(messages[0], str)


def last_images(messages: Sequence[Message]) -> tuple[ImageSource, ...]:
    """Return the images of the latest message that has some, in order."""
    return next((message.images for message in reversed(messages) if message.images), ())


def _read_message(message: Mapping[str, Any], index: int) -> Message:
    if not isinstance(message, Mapping) or not ("content" in message or _calls_tools(message)):
        raise InvalidInput(
            f'Message {index} is {message!r}; give an object with "role" and "content".'
        )
    name, content = message.get("role"), message.get("content")
    if not isinstance(name, str) or name not in _ROLES:
        raise InvalidInput(f"Message {index} has the role {name!r}; allowed: {', '.join(_ROLES)}.")
    role = _ROLES[name]
    if content is None and role == "assistant":
        return Message(role, "")
    if isinstance(content, str):
        return Message(role, content)
    if not isinstance(content, Sequence):
        raise InvalidInput(
            f"The content of message {index} is of type {type(content).__name__}; "
            "give a string or a list of parts."
        )
    texts: list[str] = []
    images: list[ImageSource] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_image_of_url(part.get("image_url"), index))
        elif kind == "image" and part.get("image") is not None:
            images.append(part["image"])
        else:
            raise InvalidInput(
                f'A part of message {index} is {part!r}; allowed: {{"type": "text", "text": ...}} '
                'and {"type": "image_url", "image_url": {"url": ...}}.'
            )
    return Message(role, "\n".join(texts), images[0] if images else None, tuple(images[1:]))


def _calls_tools(message: Mapping[str, Any]) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def _image_of_url(value: Any, index: int) -> ImageSource:
    url = value.get("url") if isinstance(value, Mapping) else value
    if not isinstance(url, str) or not url:
        raise InvalidInput(
            f"The image of message {index} has no url; give a path, an address or a data: URL."
        )
    if url.lstrip()[:5].lower() != "data:":
        return url
    try:
        return decode_data_url(url)
    except InvalidInput as error:
        raise InvalidInput(f"Message {index}: {error}") from None
