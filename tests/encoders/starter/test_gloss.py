"""Chinese glossed by the glossary that comes with ravlm and by CC-CEDICT."""

from __future__ import annotations

import pytest

from ravlm.encoders.starter.gloss import Glosser, starter_glosser


@pytest.fixture(scope="module")
def glosser() -> Glosser:
    return starter_glosser({"ancient": 900, "tower": 2000})


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("法国的首都是哪里？", "France capital is where ?"),
        ("湖边的古塔", "lake ancient tower"),
        ("a cat 和狗", "a cat and dog"),
        ("no Chinese at all", "no Chinese at all"),
    ],
)
def test_words_in_english(glosser: Glosser, chinese: str, english: str) -> None:
    """古塔 once stayed unchanged: the dictionary only knows a small district of that name."""
    assert glosser.gloss(chinese).replace(" ?", "?") == english.replace(" ?", "?")


def test_another_glossary_is_another_fingerprint(glosser: Glosser) -> None:
    """The vectors of glossed texts depend on the glosses."""
    assert Glosser({"猫": "cat"}, {}).fingerprint != glosser.fingerprint
