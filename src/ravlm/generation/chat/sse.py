"""Server-sent events from bytes as they come:
https://html.spec.whatwg.org/multipage/server-sent-events.html

Knows no connection and no endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


def read_events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, its lines joined; one that is cut off before its end is dropped, as
    the standard says."""
    data: list[str] = []
    for line in _lines(chunks):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
            continue
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    held, first = b"", True
    for chunk in chunks:
        *whole, held = _LINE_END.split(held + chunk)
        for line in whole:
            text = line.decode("utf-8", errors="replace")
            yield text.removeprefix("\ufeff") if first else text
            first = False
    if held.endswith(b"\r"):
        yield held[:-1].decode("utf-8", errors="replace")
