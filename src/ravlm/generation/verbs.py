"""The verbs of the model, in one table, and the way they share: inputs to requests to answers.

The model, the server, MCP and the command line all read this table."""

from __future__ import annotations

from collections.abc import Generator as Stream
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ravlm.data.text import is_chinese
from ravlm.errors import InvalidInput
from ravlm.generation.base import Generator, Request, VerbName, abstain
from ravlm.generation.inputs import broadcast, check_text, is_batch
from ravlm.generation.messages import (
    earlier_user_texts,
    is_conversation_batch,
    last_image,
    read_messages,
)
from ravlm.records import Answer, Evidence
from ravlm.retrieval.query import RetrievalQuery


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
    """Requests, and whether the caller passed a batch."""

    requests: list[Request]
    is_batch: bool

    def with_evidence(self, sources: Sequence[Evidence]) -> RequestBatch:
        """Return the batch with the evidence of each request."""
        pairs = zip(self.requests, sources, strict=True)
        return RequestBatch([replace(r, evidence=source) for r, source in pairs], self.is_batch)


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


def retrieval_query(request: Request) -> RetrievalQuery:
    """Return the query that retrieves the evidence of a request."""
    return RetrievalQuery(
        text=request.text,
        image=request.image,
        history=earlier_user_texts(request.messages) if request.messages else None,
        accept_similar=not VERBS[request.task].must_match,
    )


def generate_answers(generator: Generator, requests: Sequence[Request]) -> list[Answer]:
    """Return the answer of each request; the generator sees those that are not declined before."""
    abstentions = [_abstention(generator, request) for request in requests]
    pairs = list(zip(requests, abstentions, strict=True))
    generated = iter(generator.generate([request for request, answer in pairs if answer is None]))
    return [next(generated) if answer is None else answer for answer in abstentions]


def stream_answer(generator: Generator, request: Request) -> Stream[str, None, Answer]:
    """Yield the text of a request's answer in pieces, and return the answer."""
    abstention = _abstention(generator, request)
    if abstention is not None:
        yield abstention.text
        return abstention
    return (yield from generator.stream(request))


def _abstention(generator: Generator, request: Request) -> Answer | None:
    """Return the abstaining answer if the subject of a request is probably not in the base."""
    evidence = request.evidence
    if evidence.hits and not evidence.linked and generator.reads_passages:
        return None
    if VERBS[request.task].must_match and evidence.searched and not evidence.sufficient:
        return abstain(request, "the subject is probably not in the base")
    return None
