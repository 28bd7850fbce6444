"""Read streamed answers."""

from __future__ import annotations

from ravlm.records import Answer, AnswerStream


def read_stream(stream: AnswerStream) -> tuple[list[str], Answer]:
    """Return the pieces of a stream and its answer."""
    pieces = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value
