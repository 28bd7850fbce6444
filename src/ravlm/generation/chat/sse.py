"""Server-sent events, parsed from bytes as they arrive:
https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


def read_events(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the data of each event, its lines joined by newlines.

    An event that is cut off before its end is dropped, as the standard says."""
    data: list[str] = []
    for line in _read_lines(chunks):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
            continue
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))


def _read_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield complete lines; a byte order mark at the beginning is removed."""
    buffer = b""
    is_first = True
    for chunk in chunks:
        *lines, buffer = _LINE_END.split(buffer + chunk)
        for line in lines:
            text = line.decode("utf-8", errors="replace")
            yield text.removeprefix("\ufeff") if is_first else text
            is_first = False
    if buffer.endswith(b"\r"):
        yield buffer[:-1].decode("utf-8", errors="replace")
