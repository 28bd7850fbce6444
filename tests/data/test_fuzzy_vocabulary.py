"""The word that a misread one stands for."""

from __future__ import annotations

import pytest

from ravlm.data.fuzzy_vocabulary import FuzzyVocabulary

WORDS = FuzzyVocabulary(["tropicana", "orange", "milk", "almond", "豆浆", "havredryck"])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("orange", ("orange", 1.0)),
        ("iropicana", ("tropicana", 0.8)),  # 8 of 10 bigrams each
        ("havredryk", ("havredryck", 2 * 9 / 21)),
        ("豆浆", ("豆浆", 1.0)),
        ("silk", ("", 0.0)),  # 3 of 5: as many words differ from a short one by a letter
        ("rice", ("", 0.0)),
        ("豆奶", ("", 0.0)),
        ("", ("", 0.0)),
    ],
)
def test_the_closest_word(word: str, expected: tuple[str, float]) -> None:
    match, similarity = WORDS.closest(word)
    assert (match, similarity) == (expected[0], pytest.approx(expected[1]))


def test_of_equally_close_words_the_first_in_the_alphabet_is_taken() -> None:
    """The order of a set, which differs from run to run, must not decide an answer."""
    assert FuzzyVocabulary(["cream1", "cream2"]).closest("cream3")[0] == "cream1"
    assert FuzzyVocabulary([]).closest("cream") == ("", 0.0)
