"""Words shared by texts."""

from __future__ import annotations

import pytest

from ravlm.data.lexical_overlap import content_words, overlap


def test_stems_meet_and_function_words_go() -> None:
    assert content_words("What are the neighbouring countries of it?") == content_words(
        "neighbours, country"
    )
    assert content_words("What is it?") == frozenset()


@pytest.mark.parametrize(
    ("wanted", "given", "share"),
    [
        ("red boat", "the red boats of Venice", 1.0),
        ("red boat", "a red house", 0.5),
        ("kilocalories", "energi ca 40 kilokalori", 2 / 3),
        ("", "anything", 0.0),
    ],
)
def test_shares(wanted: str, given: str, share: float) -> None:
    assert overlap(content_words(wanted), content_words(given)) == pytest.approx(share)
