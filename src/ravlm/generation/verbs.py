"""The verbs of the model, in one table: which inputs each takes and how its requests are built.

The model, the server, MCP and the command line all read this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ravlm.data.text import is_chinese
from ravlm.errors import InvalidInput
from ravlm.generation.base import Request, VerbName
from ravlm.generation.inputs import broadcast, check_text, is_batch
from ravlm.generation.messages import is_conversation_batch, last_image, read_messages


@dataclass(frozen=True)
class Verb:
    """The inputs of a verb and the treatment of its evidence."""

    text: str = ""
    """Argument that holds the text: question, prompt or messages; empty if there is none."""
    requires: tuple[str, ...] = ()
    """Of "text" and "image", what must be given. A verb that requires neither needs one of them."""
    missing: str = ""
    """Error message for a missing image, or for no input at all."""
    must_match: bool = False
    """Abstain before the generator is called unless the evidence is about the request. Other verbs
    may use evidence that is only similar."""

    @property
    def takes_messages(self) -> bool:
        """Whether the text is a conversation in the OpenAI form."""
        return self.text == "messages"


VERBS: dict[VerbName, Verb] = {
    "ask": Verb("question", ("text",), must_match=True),
    "caption": Verb("", ("image",), "There is no image to describe; give image=."),
    "tell": Verb("prompt", (), "There is nothing to tell about; give image=, prompt= or both."),
    "chat": Verb("messages", ("text",), must_match=True),
}


class RequestBatch(NamedTuple):
    """Requests without their evidence, and whether the caller passed a batch."""

    requests: list[Request]
    is_batch: bool


def build_requests(name: VerbName, text: Any = None, image: Any = None) -> RequestBatch:
    """Return the requests of a verb. Texts and images are single values or batches.

    Raises InvalidInput for a missing or malformed input.
    """
    verb = VERBS[name]
    text_is_batch = is_conversation_batch(text) if verb.takes_messages else is_batch(text)
    pairs = broadcast(text, image, text_is_batch)
    requests = [_request(name, verb, *pair) for pair in pairs]
    return RequestBatch(requests, text_is_batch or is_batch(image))


def _request(name: VerbName, verb: Verb, text: Any, image: Any) -> Request:
    if verb.takes_messages:
        messages = read_messages(text)
        image = last_image(messages) if image is None else image
        last_text = messages[-1].text
        return Request(name, last_text, image, messages=messages, chinese=is_chinese(last_text))
    if image is None and ("image" in verb.requires or (text is None and not verb.requires)):
        raise InvalidInput(verb.missing)
    if text is not None and not verb.text:
        raise InvalidInput(f"{name} takes no text; give image= alone.")
    if text is not None or "text" in verb.requires:
        check_text(text, verb.text)
    text = text or ""
    return Request(name, text, image, chinese=is_chinese(text))


def verb_inputs(name: VerbName, text: Any = None, image: Any = None) -> dict[str, Any]:
    """Return the keyword arguments with which the model's method `name` takes a text and an
    image."""
    verb = VERBS[name]
    return ({verb.text: text} if verb.text else {}) | {"image": image}
