"""Server-sent events: the same, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ravlm.generation.chat.sse import read_events

SENT = (
    '\ufeff: hello\r\nevent: x\ndata: {"a": "蓝"}\r\rdata:one\ndata: two\r\n\r\n\n\ndata: cut off\n'
).encode()


def test_what_the_standard_says() -> None:
    assert list(read_events([SENT])) == ['{"a": "蓝"}', "one\ntwo"]


@given(st.lists(st.integers(0, len(SENT)), max_size=12))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    """A line end of two bytes that came in two pieces once made two events of one."""
    places = [0, *sorted(cuts), len(SENT)]
    chunks = [SENT[a:b] for a, b in pairwise(places)]
    assert list(read_events(chunks)) == ['{"a": "蓝"}', "one\ntwo"]


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    assert all(isinstance(event, str) for event in read_events([data]))
