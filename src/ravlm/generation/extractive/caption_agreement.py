"""What captions of several photos agree on: parts of one whose words the others have, too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ravlm.data.facts import entity_name, parse_facts
from ravlm.data.text import is_chinese
from ravlm.generation.support_tokens import SupportToken, same_word, tokenize
from ravlm.records import Hit

_MAX_CAPTION_WORDS, _MAX_CAPTION_CHARACTERS = 25, 60
_MAX_TEXT = 400
_MAX_SENTENCES = 2
_SHARE = 0.5
"""A word is agreed on if the photos whose captions have it have this share of the weight."""
_CHINESE_SHARE = 0.6
"""Share of the character pairs of a Chinese caption that must be agreed on."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[,;.]")
_DETERMINERS = frozenset({"a", "an", "the", "some", "several"})
_FUNCTION_WORDS = _DETERMINERS | {
    "across", "against", "along", "and", "are", "around", "as", "at", "behind", "beside", "between",
    "by", "down", "for", "from", "her", "his", "in", "inside", "into", "is", "it", "its", "near",
    "next", "of", "off", "on", "onto", "outside", "over", "that", "their", "there", "through", "to",
    "under", "up", "which", "while", "who", "with",
}  # fmt: skip
_ADJECTIVES = frozenset({
    "big", "black", "blue", "bright", "brown", "dark", "golden", "gray", "green", "grey", "large",
    "light", "little", "long", "old", "orange", "pink", "purple", "red", "sandy", "short", "small",
    "snowy", "steep", "tall", "tan", "white", "wooden", "yellow", "young",
})  # fmt: skip
"""Words before a noun that may be left out where captions differ in them."""


@dataclass(frozen=True)
class CaptionSet:
    """Captions of photos: `owners` is the photo of each caption, `weights` has one per photo."""

    captions: Sequence[str]
    owners: Sequence[int]
    weights: Sequence[float]

    def is_agreed(self, photos: set[int]) -> bool:
        """Return whether a word is agreed on that the captions of these photos have."""
        total = sum(self.weights[owner] for owner in set(self.owners))
        return len(photos) > 1 and sum(self.weights[p] for p in photos) >= _SHARE * total


def are_captions(hits: Sequence[Hit]) -> bool:
    """Return whether the texts of all hits are short descriptions of photos without a name."""
    return bool(hits) and all(_is_captioned(hit) for hit in hits)


def _is_captioned(hit: Hit) -> bool:
    entry = hit.entry
    if entry.image is None or not entry.texts or max(map(len, entry.texts)) > _MAX_TEXT:
        return False
    if entity_name(entry):
        return False
    for text in entry.texts:
        facts = parse_facts(text)
        is_long = any(
            len(f.value.split()) > _MAX_CAPTION_WORDS
            or (is_chinese(f.value) and len(f.value) > _MAX_CAPTION_CHARACTERS)
            for f in facts
        )
        if is_long or len(facts) > _MAX_SENTENCES or any(fact.key for fact in facts):
            return False
    return True


def agreed_caption(captions: CaptionSet) -> str:
    """Return what captions agree on, without a full stop; "" if that is nothing.

    The captions of a single photo are compared with each other.

    >>> texts = ["A brown dog runs along the beach.", "A black dog runs on a beach."]
    >>> agreed_caption(CaptionSet(texts, [0, 1], [0.5, 0.5]))
    'A dog runs on a beach'
    """
    texts = [text.strip().rstrip(" .。") for text in captions.captions]
    if len(set(texts)) == 1:
        return texts[0]
    owners, weights = captions.owners, captions.weights
    if len(set(owners)) == 1:
        owners, weights = list(range(len(texts))), [1.0] * len(texts)
    captions = CaptionSet(texts, owners, weights)
    return _agreed_chinese(captions) if is_chinese(texts[0]) else _agreed_english(captions)


def _agreed_chinese(captions: CaptionSet) -> str:
    """Return the caption most of whose character pairs are agreed on."""
    grams = [{text[i : i + 2] for i in range(len(text) - 1)} for text in captions.captions]
    best, best_share = "", _CHINESE_SHARE
    for text, own_grams in zip(captions.captions, grams, strict=True):
        agreed = sum(captions.is_agreed(_owners_of(gram, grams, captions)) for gram in own_grams)
        share = agreed / max(1, len(own_grams))
        if share > best_share:
            best, best_share = text, share
    return best


def _owners_of(gram: str, grams: Sequence[set[str]], captions: CaptionSet) -> set[int]:
    pairs = zip(captions.owners, grams, strict=True)
    return {owner for owner, members in pairs if gram in members}


def _agreed_english(captions: CaptionSet) -> str:
    tokens = [[t for t in tokenize(text) if t.is_content] for text in captions.captions]
    best, best_size = "", 0
    for text in captions.captions:
        spans = _agreed_spans(_WORD.findall(text), captions, tokens)
        size = sum(count for _, count in spans)
        part = " and ".join(span for span, _ in spans)
        if size > best_size or (size and size == best_size and len(part) < len(best)):
            best, best_size = part, size
    return best


def _agreed_spans(
    words: Sequence[str], captions: CaptionSet, tokens: Sequence[Sequence[SupportToken]]
) -> list[tuple[str, int]]:
    """Return the parts of a caption that are agreed on, with their numbers of content words.

    A part starts at an article or at the start of the caption; adjectives may be left out.
    """
    spans: list[tuple[str, int]] = []
    span: list[str] = []
    size = 0
    is_open = True
    for word in [*words, "."]:
        lower = word.casefold()
        token = next(iter(tokenize(f"a {word}")[1:]), None)
        if token is None or token.is_border or lower in _FUNCTION_WORDS:
            if not is_open and lower in _DETERMINERS:
                span, size, is_open = [], 0, True
            if is_open:
                span.append(word)
            continue
        if not is_open:
            continue
        photos = {
            owner
            for owner, members in zip(captions.owners, tokens, strict=True)
            if any(same_word(token, candidate) for candidate in members)
        }
        if captions.is_agreed(photos):
            span.append(word)
            size += 1
        elif lower not in _ADJECTIVES:
            spans += _trim_span(span, size)
            span, size, is_open = [], 0, False
    return spans + _trim_span(span, size)


def _trim_span(words: Sequence[str], size: int) -> list[tuple[str, int]]:
    """Return a part without function words at its end; nothing if no content word is left."""
    words = list(words)
    dangling = _FUNCTION_WORDS | {",", ";", "."}
    while words and words[-1].casefold() in dangling:
        words.pop()
    for index, word in enumerate(words[:-1]):
        if word.casefold() in ("a", "an"):
            right = "an" if words[index + 1][:1].casefold() in tuple("aeiou") else "a"
            words[index] = right.capitalize() if word[0].isupper() else right
    text = re.sub(r" ([,;.])", r"\1", " ".join(words))
    return [(text, size)] if words and size else []
