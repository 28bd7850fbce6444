"""Turn a message that asks for a caption or a story into a request for that verb."""

from __future__ import annotations

from dataclasses import replace

from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.text import is_chinese
from ravlm.generation.base import Request
from ravlm.generation.conversation import read_command

_ON_TOPIC = 0.6
"""Share of the words of a topic that a passage must have to be told."""


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
        pairs = [
            (hit, weight)
            for hit, weight in zip(evidence.hits, evidence.weights, strict=True)
            if overlap(topic, content_words(" ".join(hit.entry.texts))) >= _ON_TOPIC
        ]
        evidence = replace(
            evidence,
            hits=tuple(hit for hit, _ in pairs[:1]),
            weights=tuple(1.0 for _ in pairs[:1]),
        )
    chinese = is_chinese(request.text)
    if command.task == "caption":
        return replace(request, task="caption", text="", evidence=evidence, chinese=chinese)
    return replace(request, task="tell", text=command.topic, evidence=evidence, chinese=chinese)
