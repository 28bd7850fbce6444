"""The language of a text, and stems of its words."""

from __future__ import annotations

import pytest
import snowballstemmer

from ravlm.data.stemming import STEMMERS, detect_language, languages_of, stem


def test_every_language_has_a_stemmer_and_a_script() -> None:
    assert set(STEMMERS.values()) <= set(snowballstemmer.algorithms())
    scripts = ("a", "я", "ا", "अ", "α", "ա", "அ", "א")
    languages = {language for letter in scripts for language in languages_of(letter)}
    assert languages == {"en", *STEMMERS}
    assert languages_of("2010") == languages_of("猫") == languages_of("ქ") == ()


SENTENCES = {
    "a man in a red shirt is climbing up a wall": "en",
    "los angeles is a city in the united states": "en",
    "tshirt 2010": "en",
    "ein mann in einem roten hemd": "de",
    "un homme dans la rue avec son chien": "fr",
    "un uomo con una camicia che corre nella neve": "it",
    "een man op de fiets": "nl",
    "um homem com uma camisa vermelha em uma rua": "pt",
    "dwa psy biegną po śniegu i nie szczekają": "pl",
    "мужчина на велосипеде": "ru",
    "رجل في الشارع": "ar",
    "یک مرد در خیابان": "fa",
    "एक आदमी सड़क पर है": "hi",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_function_words_tell_the_language(sentence: str) -> None:
    assert detect_language(sentence.split()) == SENTENCES[sentence]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", ("häuser", "haus", "hauses")),
        ("fr", ("l'élève", "élèves")),
        ("it", ("dell’acqua", "acqua")),
        ("es", ("niñas", "niña")),
        ("ru", ("собаки", "собаку", "собака")),
        ("sv", ("hundarna", "hundar")),
        ("en", ("running", "runs")),
    ],
)
def test_forms_of_a_word_have_one_stem(language: str, words: tuple[str, ...]) -> None:
    assert len({stem(word, language) for word in words}) == 1
