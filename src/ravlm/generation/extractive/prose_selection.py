"""Choose the sentences of prose that make a story: the entry's own, in their order, word for word.

A sentence that needs the one before it, for a pronoun or a connective, is chosen only after it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ravlm.data.lexical_overlap import content_words
from ravlm.data.text import is_chinese, split_sentences, split_words

_BLOCK_TAG = re.compile(r"</?(?:p|div|h\d|li|ul|ol|br|tr|td|table|section)\b[^<>]{0,300}>", re.I)
_TAG = re.compile(r"</?[a-zA-Z!][^<>]{0,300}>|&[a-z]{2,6};|\*{1,3}|`+|^#+ |\[\d+\]", re.M)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_PRONOUN = re.compile(
    r"(?:It|He|She|They|Its|His|Her|Their)\b|[它他她]们?|其(?!中|他|它|实|余|间)", re.IGNORECASE
)
_BARE_PRONOUN = re.compile(r"(?:It|He|She)(?= [a-z])|[它他她](?!们|的)")
_EXPLETIVE = re.compile(
    r"It (?:is|was|seems|appears|has been) (?:not |also |widely |often )?"
    r"(?:until|said|known|thought|believed|possible|likely|in|on|only|the|because|rumou?red)\b"
)
_CONNECTIVE = re.compile(
    r"(?:however|but|also|therefore|thus|hence|moreover|furthermore|instead|then|and|or|so|for "
    r"example|for instance|as a result|in addition|in contrast|on the other hand|this|that|these"
    r"|those|such|another|both|there|here|later|afterwards|consequently|similarly|meanwhile|others?"
    r"|the (?:former|latter|other|same|two|second|third|following))\b"
    r"|但|不过|然而|因此|所以|此外|另外|同时|于是|这|那|其中|而|后来|随后|之后|例如|由此|此后|相反",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d_]")
_MIN_LETTERS = 0.5
_MAX_WORDS, _MAX_CHARACTERS = 45, 130
_MIN_WORDS, _MIN_CHARACTERS = 2, 4
_MAX_FIELD_WORDS = 8
_MAX_SENTENCES = 80


@dataclass(frozen=True)
class ProseSentence:
    """A sentence of a text, and what it needs before it."""

    text: str
    position: int
    opens_with_pronoun: bool
    needs_previous: bool


def clean_text(text: str) -> str:
    """Return a text without HTML tags, Markdown marks and footnote marks."""
    return _TAG.sub("", _BLOCK_TAG.sub("\n", _LINK.sub(r"\1", text)))


def read_prose(values: Sequence[str]) -> list[ProseSentence]:
    """Return the sentences of prose that a story can use, with their position among all."""
    texts = [sentence for value in values for sentence in split_sentences(value)]
    return [
        ProseSentence(
            text,
            position,
            _PRONOUN.match(text) is not None and _EXPLETIVE.match(text) is None,
            _CONNECTIVE.match(text) is not None,
        )
        for position, text in enumerate(texts[:_MAX_SENTENCES])
        if _is_sentence(text)
    ]


def choose_prose(
    sentences: Sequence[ProseSentence], name: str, prompt: str, limit: int
) -> list[ProseSentence]:
    """Return at most `limit` sentences, in their order.

    The best are about the subject, have words that occur often, and words of the prompt.
    """
    words = [content_words(sentence.text) for sentence in sentences]
    frequency = Counter(word for stems in words for word in stems)
    prompt_words = content_words(prompt) - content_words(name)
    name_words = content_words(name)
    scores = {}
    for sentence, stems in zip(sentences, words, strict=True):
        centrality = sum(frequency[w] - 1 for w in stems) / (len(stems) + 4)
        about = bool(name_words) and name_words <= stems
        relevance = len(prompt_words & stems) / max(1, len(prompt_words))
        digits = any(c.isdigit() for c in sentence.text)
        scores[sentence.position] = (
            centrality + about + 0.3 * digits + 3 * relevance - 0.02 * sentence.position
        )
    by_position = {sentence.position: sentence for sentence in sentences}
    selection: set[int] = set()
    if sentences and not sentences[0].needs_previous:
        selection.add(sentences[0].position)
    for sentence in sorted(sentences, key=lambda s: -scores[s.position]):
        group = _with_antecedents(sentence, by_position)
        if group and len(selection | group) <= limit:
            selection |= group
    return [by_position[position] for position in sorted(selection)]


def _with_antecedents(sentence: ProseSentence, by_position: dict[int, ProseSentence]) -> set[int]:
    """Return a sentence with those it needs before it; nothing if one of them can't be used."""
    group = {sentence.position}
    while sentence.needs_previous or sentence.opens_with_pronoun:
        previous = by_position.get(sentence.position - 1)
        if previous is None:
            return group if sentence.position == 0 and not sentence.needs_previous else set()
        group.add(previous.position)
        sentence = previous
    return group


def name_subject(sentence: ProseSentence, name: str) -> str:
    """Return a sentence with the name in place of the pronoun that opens it as its subject."""
    if not sentence.opens_with_pronoun:
        return sentence.text
    return _BARE_PRONOUN.sub(lambda _: name, sentence.text, count=1)


def _is_sentence(text: str) -> bool:
    """Return whether a text is made of words and has the length of a sentence."""
    visible = [c for c in text if not c.isspace()]
    if not visible or len(_LETTER.findall(text)) < _MIN_LETTERS * len(visible):
        return False
    is_field = re.match(r"[^:]{1,40}: ", text) is not None and len(text.split()) <= _MAX_FIELD_WORDS
    if text.endswith((":", "：")) or "://" in text or is_field:
        return False
    if is_chinese(text):
        return _MIN_CHARACTERS <= len(visible) <= _MAX_CHARACTERS
    if len(visible) > _MAX_WORDS * 12:
        return False
    return _MIN_WORDS <= len(split_words(text)) <= _MAX_WORDS
