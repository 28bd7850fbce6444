"""The verbs of the model, in one table, and the way they share: inputs to requests to answers.

The model, the server, MCP and the command line all read this table."""

from __future__ import annotations

from collections.abc import Generator as Stream
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, NamedTuple

from ravlm.data.text import is_chinese
from ravlm.errors import InvalidInput
from ravlm.generation.base import Generator, Request, VerbName, abstain
from ravlm.generation.citation_marks import restore_entries, without_marks
from ravlm.generation.conversation import (
    SmallTalkKind,
    read_command,
    small_talk_kind,
    small_talk_reply,
    turns_of_subject,
)
from ravlm.generation.inputs import broadcast, check_text, is_batch
from ravlm.generation.messages import is_conversation_batch, last_images, read_messages
from ravlm.generation.multi_image import decline_images, merge_evidence
from ravlm.records import CLOSED_BOOK, Answer, Evidence
from ravlm.retrieval.query import RetrievalQuery
from ravlm.retrieval.retriever import Retriever
from ravlm.search.filter_parser import Where


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


_ABSTENTION_LENGTH = 60
"""Characters; a longer text is an answer."""
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


def build_requests(
    name: VerbName, text: Any = None, image: Any = None, base_only: bool = True
) -> RequestBatch:
    """Return the requests of a verb. Texts and images are single values or batches.

    With `base_only` False they may be answered without evidence. Raises InvalidInput for a missing
    or malformed input.
    """
    verb = VERBS[name]
    text_is_batch = is_conversation_batch(text) if verb.takes_messages else is_batch(text)
    pairs = broadcast(text, image, text_is_batch)
    requests = [replace(_request(name, verb, *pair), base_only=base_only) for pair in pairs]
    return RequestBatch(requests, text_is_batch or is_batch(image))


def _request(name: VerbName, verb: Verb, text: Any, image: Any) -> Request:
    if verb.takes_messages:
        messages = read_messages(text)
        images = last_images(messages) if image is None else (image,)
        last_text = messages[-1].text
        return Request(
            name,
            last_text,
            images[0] if images else None,
            messages=messages,
            chinese=is_chinese(last_text),
            more_images=images[1:],
        )
    if image is None and ("image" in verb.requires or (text is None and not verb.requires)):
        raise InvalidInput(verb.missing)
    if text is not None and not verb.text:
        raise InvalidInput(f"{name} takes no text; give image= alone.")
    if text is not None or "text" in verb.requires:
        check_text(text, verb.text)
    text = text or ""
    return Request(name, text, image, chinese=is_chinese(text))


def retrieve_evidence(
    retriever: Retriever, generator: Generator, requests: Sequence[Request], k: int, where: Where
) -> list[Evidence]:
    """Return the evidence of each request, retrieved in one call as the generator needs it.

    Small talk needs none.
    """
    queries = [
        [] if _small_talk_kind(request) else _retrieval_queries(request) for request in requests
    ]
    sources = iter(
        retriever.retrieve(
            queries=list(chain.from_iterable(queries)),
            k=k,
            where=where,
            adapt_query=generator.adapt_query,
            modality=generator.evidence_modality,
        )
    )
    return [
        merge_evidence(list(islice(sources, len(parts))), k) if parts else CLOSED_BOOK
        for parts in queries
    ]


def _small_talk_kind(request: Request) -> SmallTalkKind | None:
    """Return the kind of a message such as "hello" without an image of its own; else None."""
    images = request.messages[-1].images if request.messages else request.images
    if request.task not in ("ask", "chat") or images:
        return None
    return small_talk_kind(request.text)


def _retrieval_queries(request: Request) -> list[RetrievalQuery]:
    """Return the queries that retrieve the evidence of a request: one for each of its images."""
    text, history = request.text, None
    if request.messages:
        is_separate = request.image is not None and not last_images(request.messages)
        history = turns_of_subject(request.messages, is_separate)
        command = read_command(text)
        if command is not None and (command.topic or request.image is not None):
            text = command.topic
    query = RetrievalQuery(
        text=text,
        image=request.image,
        history=history,
        accept_similar=not VERBS[request.task].must_match,
    )
    return [query, *(replace(query, image=image) for image in request.more_images)]


def generate_answers(generator: Generator, requests: Sequence[Request]) -> list[Answer]:
    """Return the answer of each request; the generator gets those that are not declined before.

    A request that is not `base_only` and was declined goes to the generator without evidence.
    Generators read entries without citation marks; the answers have them as they are stored.
    """
    readable = list(map(without_marks, requests))
    answers = _generate_answers(generator, readable)
    return list(map(restore_entries, answers, readable, requests))


def _generate_answers(generator: Generator, requests: Sequence[Request]) -> list[Answer]:
    early = [_decline(generator, request) for request in requests]
    pairs = list(zip(requests, early, strict=True))
    generated = iter(generator.generate([request for request, answer in pairs if answer is None]))
    answers = [
        _mark_closed_book(request, next(generated)) if answer is None else answer
        for request, answer in pairs
    ]
    declined = [
        row
        for row, request in enumerate(requests)
        if answers[row].abstained and _may_go_on(request)
    ]
    if declined:
        again = [_without_evidence(requests[row]) for row in declined]
        for row, request, answer in zip(declined, again, generator.generate(again), strict=True):
            if not answer.abstained:
                answers[row] = _mark_closed_book(request, answer)
    return answers


def stream_answer(generator: Generator, request: Request) -> Stream[str, None, Answer]:
    """Yield the text of a request's answer in pieces, and return the answer."""
    readable = without_marks(request)
    answer = yield from _stream_answer(generator, readable)
    return restore_entries(answer, readable, request)


def _stream_answer(generator: Generator, request: Request) -> Stream[str, None, Answer]:
    answer = _decline(generator, request)
    if answer is None and not _may_go_on(request):
        return _mark_closed_book(request, (yield from generator.stream(request)))
    if answer is None:
        is_shown, answer = yield from _stream_unless_abstained(generator, request)
        if is_shown:
            return answer
    if answer.abstained and _may_go_on(request):
        closed_book = _without_evidence(request)
        is_shown, attempt = yield from _stream_unless_abstained(generator, closed_book)
        if is_shown:
            return _mark_closed_book(closed_book, attempt)
    yield answer.text
    return answer


def _stream_unless_abstained(
    generator: Generator, request: Request
) -> Stream[str, None, tuple[bool, Answer]]:
    """Stream an answer, and return it and whether its text was yielded: not if it abstains.

    The beginning is held back for as long as it may be an abstention.
    """
    pieces = generator.stream(request)
    beginning: str | None = ""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            answer: Answer = end.value
            if beginning is not None and not answer.abstained:
                yield beginning
                return True, answer
            return beginning is None, answer
        if beginning is None:
            yield piece
            continue
        beginning += piece
        if len(beginning) > _ABSTENTION_LENGTH:
            yield beginning
            beginning = None


def _may_go_on(request: Request) -> bool:
    return not request.base_only and request.evidence.searched


def _without_evidence(request: Request) -> Request:
    """Return the request as the closed book gets it."""
    evidence = replace(CLOSED_BOOK, trace=request.evidence.trace)
    return replace(request, evidence=evidence, declined=True)


def _mark_closed_book(request: Request, answer: Answer) -> Answer:
    """Return the answer with a mark in its trace if the generator wrote it without the base."""
    if request.evidence.searched or answer.abstained:
        return answer
    return replace(answer, citations=(), sources=(), trace={**answer.trace, "closed_book": True})


def _decline(generator: Generator, request: Request) -> Answer | None:
    """Return an answer without the generator: to small talk, or because it can't read the request,
    or the subject is probably not in the base."""
    kind = _small_talk_kind(request)
    if kind is not None:
        reply = small_talk_reply(kind, request.chinese)
        answer = Answer(reply, confidence=1.0, trace={"small talk": kind})
        return None if generator.talks else answer
    declined = decline_images(generator, request)
    if declined is not None:
        return declined
    evidence = request.evidence
    if evidence.hits and not evidence.linked and generator.reads_passages:
        return None
    if VERBS[request.task].must_match and evidence.searched and not evidence.sufficient:
        return abstain(request, "the subject is probably not in the base")
    return None
