"""One form for comparison: scripts, widths, compositions and typography meet."""

from __future__ import annotations

import unicodedata

import pytest

from ravlm.data.chinese_lexicon import simplified_characters
from ravlm.data.text import normalize_text, split_words, strip_accents

SAME = [
    ("國立故宮博物院", "国立故宫博物院"),
    ("臺灣與台灣", "台湾与台湾"),
    ("裡面的鐘錶", "里面的钟表"),
    ("Ｃａｆé　Ｍｕｎｉｃｈ", "Café Munich"),
    ("価格：１，２８０円", "価格:1,280円"),
    ("Ame\u0301lie", "Amélie"),
    ("ｶﾞﾗｽ", "ガラス"),
    ("하늘", unicodedata.normalize("NFD", "하늘")),
    ("O’Hare", "O'Hare"),
    ("Saint‑Malo", "Saint-Malo"),
    ("co\u00adop\u200b", "coop"),
    ("ﬁve ㎏", "five kg"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_two_spellings_meet(one: str, two: str) -> None:
    """A name in traditional characters, or typed in full width, was found by no question."""
    assert normalize_text(one) == normalize_text(two)


def test_case_and_accents_stay() -> None:
    assert normalize_text("Café ÉCOLE") == "Café ÉCOLE"
    assert strip_accents("Café ÉCOLE Ångström") == "Cafe ECOLE Angstrom"
    plain = "plain ASCII 3.5"
    assert normalize_text(plain) is plain


def test_normalizing_twice_changes_nothing_more() -> None:
    """OpenCC's table gives 苧 for 薴 and 苎 for 苧: one pass stopped halfway."""
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for text in ["薴麻", *("".join(characters[i : i + 64]) for i in range(0, len(characters), 64))]:
        once = normalize_text(text)
        assert normalize_text(once) == once
    assert normalize_text("薴") == "苎"


def test_the_table_maps_one_character_to_one() -> None:
    table = simplified_characters()
    assert len(table) > 3000
    assert chr(table[ord("廣")]) == "广"
    assert ord("广") not in table


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("एक कुत्ता दौड़ता है।", ["एक", "कुत्ता", "दौड़ता", "है"]),
        ("โรงแรม ริมน้ำ", ["โรงแรม", "ริมน้ำ"]),
        ("Ge\u0301rard Zoe\u0308", ["ge\u0301rard", "zoe\u0308"]),
        ("مُحَمَّد ذهب", ["مُحَمَّد", "ذهب"]),
        ("Straße_Nord x² l’été", ["straße", "nord", "x²", "l’été"]),
    ],
)
def test_marks_do_not_end_a_word(text: str, words: list[str]) -> None:
    """Hindi, Thai and decomposed accents were cut at each vowel sign: कुत्ता became क, त, त."""
    assert split_words(text) == words
