"""Data URLs as clients write them."""

from __future__ import annotations

import base64
import tracemalloc
from contextlib import suppress

import pytest

from ravlm.data.data_urls import decode_data_url, is_data_url
from ravlm.errors import InvalidInput

DATA = bytes(range(250, 256)) * 40 + b"?"  # its base64 has + and /, and needs padding
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT.rstrip("="),
        TEXT.replace("+", "-").replace("/", "_"),
        "\r\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
        TEXT.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        f"\n  {TEXT} ",
    ],
    ids=["plain", "no padding", "URL-safe", "lines", "percent", "blanks"],
)
@pytest.mark.parametrize("header", ["data:image/png;base64,", "DATA:image/x;a=b;BASE64,"])
def test_forms_of_base64(header: str, data: str) -> None:
    """All but the first were refused, though mail programs, Java and JavaScript write them."""
    assert decode_data_url(header + data) == DATA
    assert is_data_url(header + data)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:image/svg+xml,%3Csvg/%3E", "is not base64"),
        ("data:image/png;base64", "is not base64"),
        ("data:image/png;base64,A", "damaged"),
        ("data:image/png;base64,!!!!", "damaged"),
        ("data:image/png;base64,AA=A", "damaged"),
    ],
)
def test_what_is_no_base64(url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decode_data_url(url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: the new oil", False),
        ("data:science, base64, and more", False),
        ("See data:image/png;base64,AAAA", False),
        (" data:image/png;base64,AAAA", True),
        ("data:;base64,AAAA", True),
        ("data:image/svg+xml,%3Csvg/%3E", True),
    ],
)
def test_words_are_no_data_urls(text: str, expected: bool) -> None:
    assert is_data_url(text) is expected


def test_damaged_urls_cost_little() -> None:
    """Blanks or escapes in every place made millions of short strings: 400 MB for one URL."""
    tracemalloc.start()
    for filler in ("AB ", "%41", "%3d", "A\u00e9"):
        url = "data:image/png;base64," + filler * 300_000
        with suppress(InvalidInput):
            decode_data_url(url)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000_000
    with pytest.raises(InvalidInput, match="beyond ASCII"):
        decode_data_url("data:image/png;base64,AAA\u00e9")
