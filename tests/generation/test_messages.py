"""Messages in the OpenAI form."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ravlm.errors import InvalidInput
from ravlm.generation.messages import last_images, read_messages


def test_strings_and_parts() -> None:
    pixels = base64.b64encode(b"picture").decode()
    messages = read_messages(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    image(f"data:image/png;base64,{pixels}"),
                ],
            },
            {"role": "assistant", "content": "An owl."},
            {"role": "user", "content": "And how long is it?"},
        ]
    )
    assert [message.text for message in messages] == [
        "Be brief.",
        "What is this?",
        "An owl.",
        "And how long is it?",
    ]
    assert last_images(messages) == (b"picture",)
    two = read_messages([{"role": "user", "content": [image("owl.png"), text("?"), image("a")]}])
    assert last_images(two) == ("owl.png", "a")
    assert last_images(messages[:1]) == ()


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "A conversation is a list"),
        ({"role": "user", "content": "x"}, "A conversation is a list"),
        ("hello", "A conversation is a list"),
        ([{"role": "user"}], '"role" and "content"'),
        ([{"role": "robot", "content": "x"}], "allowed: system, user, assistant"),
        ([{"role": "assistant", "content": "x"}], "the last one must be a user's"),
        ([{"role": "user", "content": " "}], "has no text"),
        ([{"role": "user", "content": 7}], "give a string or a list of parts"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "allowed"),
        ([{"role": "user", "content": [image("data:image/png,abc"), text("?")]}], "is not base64"),
        ([{"role": "user", "content": [image("data:image/png;base64,???"), text("?")]}], "damaged"),
        ([{"role": "user", "content": [{"type": "image_url"}, text("?")]}], "has no url"),
    ],
)
def test_bad_messages_are_refused_with_a_sentence(messages: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_messages(messages)
