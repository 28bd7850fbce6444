"""Turn a message that asks for a caption or a story into a request for that verb."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.generation.base import Request
from ravlm.generation.conversation import read_command

_ON_TOPIC = 0.6
"""Share of the words of a topic that a passage must have to be used."""


def request_of_command(request: Request) -> Request:
    """Return the request for the caption or story that a message asks for; any other as it is.

    Its evidence is empty if it is not about the topic: passages that are only similar are left out
    unless they have the words of the topic, or of the turn before.
    """
    command = read_command(request.text) if request.task == "chat" else None
    if command is None:
        return request
    evidence = request.evidence
    if not evidence.linked:
        earlier = [message.text for message in request.messages[:-1] if message.role == "user"]
        topic = content_words(command.topic or " ".join(earlier[-1:]))
        about = (
            hit
            for hit in evidence.hits
            if overlap(topic, content_words(" ".join(hit.entry.texts))) >= _ON_TOPIC
        )
        hits = tuple(islice(about, 1))
        evidence = replace(evidence, hits=hits, weights=(1.0,) * len(hits))
    text = command.topic if command.task == "tell" else ""
    return replace(request, task=command.task, text=text, evidence=evidence)
