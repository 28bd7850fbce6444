"""Stems of the words of many languages, by the Snowball stemmers (snowballstemmer).

The language of a text is detected by its function words, else by its script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import regex

from ravlm.data.text import normalize_text, porter_stem, strip_accents

ENGLISH = "en"
STEMMERS = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german",
    "el": "greek", "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque",
    "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian",
    "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""Language (ISO 639-1) -> its Snowball algorithm. English words are stemmed by `porter_stem`."""
_LATIN = (
    *("en", "ca", "cs", "da", "de", "eo", "es", "et", "eu", "fi", "fr", "ga", "hu", "id", "it"),
    *("lt", "nl", "no", "pl", "pt", "ro", "sr", "st", "sv", "tr"),
)
_SCRIPTS = {
    "Latin": _LATIN,
    "Cyrillic": ("ru", "sr"),
    "Arabic": ("ar", "fa"),
    "Devanagari": ("hi", "ne"),
    "Greek": ("el",),
    "Armenian": ("hy",),
    "Tamil": ("ta",),
    "Hebrew": ("yi",),
}
"""Script -> the languages that are written in it; the first is that of words without any sign."""
_SCRIPT = regex.compile("|".join(rf"(?P<{script}>\p{{{script}}})" for script in _SCRIPTS))
_ELIDING = ("fr", "it", "ca")
_ELISION = regex.compile(r"^\p{L}{1,6}['’](?=\p{L}{2})")
_FUNCTION_WORDS = {
    "en": "the of and a an is are in on at to with for from by it its this that these was "
    "were has have be been as or not no his her their he she they who which i you we "
    "my do so up out over but what when there all s t",
    "ar": "في من على إلى عن أن هذا هذه التي الذي مع كان هو هي بين و",
    "ca": "el els les un una uns unes amb dels del per que és són i en al als aquest",
    "cs": "a v ve na se je že s o i do pro jsou jako který která po si není",
    "da": "og en et det at i på er som af for med den de til ikke om har der hun han fra to",
    "de": "der die das und ein eine einem einen einer eines ist sind mit auf von zu zum den "
    "dem des im nicht sich auch für am wird sie er es ich wir zwei bei aus nach über "
    "vor",
    "el": "ο η το οι τα του της των και να σε με για από είναι που στο στη στην δεν ένα μια",
    "eo": "la kaj estas en de al kun por ne ĝi sur li ŝi",
    "es": "el la los las un una unos unas de del y en con por para que se es son al su sus "
    "está están como más sobre",
    "et": "ja on ei et see ka oli kui mis oma ning",
    "eu": "eta da bat du ez zen dira ere dute bere",
    "fa": "و در به از که این را با است آن برای یک هم",
    "fi": "ja on ei se että joka hän ovat mutta kun oli myös kuin tai sekä kaksi",
    "fr": "le la les un une des du de et est sont dans sur avec pour par qui que au aux en "
    "ce cette il elle ses son deux ne pas",
    "ga": "an na agus ar is go le tá ag bhí sé",
    "hi": "है हैं का की के में और से को पर एक यह नहीं ने",
    "hu": "az egy és hogy nem van meg csak ez ki volt két a",
    "hy": "և է են մի որ մեջ վրա այս համար",
    "id": "dan yang di ke dari ini itu dengan untuk pada adalah sebuah seorang tidak",
    "it": "il lo la i gli le un una uno di del della dei e è sono con per che nel nella su "
    "sul al alla due non",
    "lt": "ir yra su į iš ne tai buvo bet kaip ant du",
    "ne": "छ छन् र को मा ले लाई एक यो गर्न",
    "nl": "de het een en van is zijn op met voor aan dat die niet bij naar uit om twee door",
    "no": "og en et det at i på er som av for med den de til ikke om har hun han fra to ei",
    "pl": "i w na z ze do się jest są nie że po od dla jak przez który która oraz przy dwa",
    "pt": "o a os as um uma de do da dos das e é são em no na nos nas com por para que se "
    "ao dois não",
    "ro": "și în de la un o cu pe este sunt care din pentru nu al doi",
    "ru": "и в не на что с по это как из для он она они к у от за о",
    "sr": "и је у на се да су од за са који није i je na se da su od za sa koji nije",
    "st": "ba ho ke le ka hore ea tsa ha mme",
    "sv": "och en ett det att i på är som av för med den de till inte om har hon han från två",
    "ta": "ஒரு மற்றும் இந்த அந்த என்று இது உள்ள",
    "tr": "ve bir bu ile için da olarak çok daha gibi var olan ne kadar iki üzerinde",
    "yi": "און די דער דאָס איז אַ אין פֿון מיט נישט",
}
_LANGUAGES = {
    word: tuple(code for code, words in _FUNCTION_WORDS.items() if word in words.split())
    for words in _FUNCTION_WORDS.values()
    for word in map(normalize_text, words.split())
}
_FOREIGN = frozenset(word for word, codes in _LANGUAGES.items() if ENGLISH not in codes)
"""Function words of other languages that are none in English."""
_ENGLISH_ALONE = frozenset(word for word, codes in _LANGUAGES.items() if codes == (ENGLISH,))


def detect_language(words: Sequence[str]) -> str:
    """Return the language of a text by its lower-cased words: the one with most function words.

    English if there is no function word of another language with two letters or more, and in a tie:
    single letters are often names ("-v", "e").

    >>> detect_language("zwei hunde laufen auf der wiese".split())
    'de'
    """
    if _FOREIGN.isdisjoint(words):
        return ENGLISH
    unique = set(words)
    counts = Counter(code for word in unique for code in _LANGUAGES.get(word, ()))
    certain = {code for word in unique if len(word) > 1 for code in _LANGUAGES.get(word, ())}
    candidates = [code for code in _FUNCTION_WORDS if code in certain]  # English is the first
    return max(candidates, key=lambda code: counts[code], default=ENGLISH)


def is_english(words: Sequence[str]) -> bool:
    """Return whether a text is English without doubt, by its lower-cased words: it has function
    words of English alone, and none of other languages in greater number.

    >>> is_english("the red door".split()), is_english("red door".split())
    (True, False)
    """
    return not _ENGLISH_ALONE.isdisjoint(words) and detect_language(words) == ENGLISH


@lru_cache(maxsize=len(STEMMERS))
def function_words(language: str) -> frozenset[str]:
    """Return the function words by which a language is detected."""
    return frozenset(word for word, codes in _LANGUAGES.items() if language in codes)


def languages_of(word: str) -> tuple[str, ...]:
    """Return the languages that a word may be of, by its script; empty for numbers and for scripts
    without a stemmer."""
    if word.isascii() and word.isalpha():
        return _LATIN
    script = _SCRIPT.search(word)
    return () if script is None or script.lastgroup is None else _SCRIPTS[script.lastgroup]


def stem(word: str, language: str) -> str:
    """Return the stem of a lower-cased word, without accents.

    `language` is `ENGLISH` or one of `STEMMERS`. An article or preposition that is joined to the
    word (l'eau, dell'acqua) is left out.

    >>> stem("häuser", "de"), stem("running", "en")
    ('haus', 'run')
    """
    if language == ENGLISH:
        return porter_stem(strip_accents(word))
    from snowballstemmer import stemmer

    if language in _ELIDING:
        word = _ELISION.sub("", word)
    return strip_accents(stemmer(STEMMERS[language]).stemWord(word))
