"""Words printed on a photo that is asked about: they tell apart entities that look alike, and name
those that the image alone does not show.

The words of a package or a sign are compared with the names, texts and print of the entities that
the photo may show. A misread word counts as the word of a name that it is most like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from ravlm.data.facts import entity_name
from ravlm.data.fuzzy_vocabulary import FuzzyVocabulary
from ravlm.data.lexical_overlap import content_words
from ravlm.data.page_text import all_texts
from ravlm.data.text import is_chinese
from ravlm.records import Entry
from ravlm.regions import Region
from ravlm.retrieval.visual_entities import EntityRanking

_MIN_CONFIDENCE = 0.5
"""Words read with less are left out; the others count by their confidence."""
_TEXT_WEIGHT = 0.3
"""Weight of a word of an entity's texts or print, relative to one of its name. Like
_EVIDENCE_SCALE, fitted to half of the products of `benchmarks/printed_words.py`."""
_EVIDENCE_SCALE = 0.7
"""Words of one photo are not independent."""
_MAX_EVIDENCE = 4.0
"""Limit of the log odds of all words together: they may belong to something else on the photo."""
_UNKNOWN_LOOK_SCALE = 0.5
"""Exponent of the shares if the image looks like none of the entities: they then say less."""
_CERTAIN, _MIN_OTHER_LETTERS = 0.9, 4
"""Confidence and letters from which a word that no name has is another word, not a misread one."""
_MIN_LETTERS = 3
_MAX_WORDS = 64
_MAX_TEXT = 4000
"""Characters of each text of an entity whose words are compared."""


WordsOf: TypeAlias = Callable[[str], frozenset[str]]


@dataclass(frozen=True)
class PrintedText:
    """What was read on an image."""

    text: str = ""
    """Line by line."""
    words: Mapping[str, float] = field(default_factory=dict)
    """Stems of the distinctive words, with the confidence of each, 0 to 1."""

    @staticmethod
    def of(regions: Sequence[Region]) -> PrintedText:
        """Return the words of regions."""
        lines = [r for r in regions if r.text and r.confidence >= _MIN_CONFIDENCE]
        words: dict[str, float] = {}
        for line in lines:
            for word in distinctive_words(line.text):
                words[word] = max(line.confidence, words.get(word, 0.0))
        best = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:_MAX_WORDS]
        return PrintedText("\n".join(line.text for line in lines), dict(best))


@dataclass(frozen=True)
class EntityWords:
    """The words that may be printed on an entity."""

    name: frozenset[str]
    others: frozenset[str] = frozenset()
    """Words of its texts, and those read on its images."""

    @staticmethod
    def of(entries: Sequence[Entry], words_of: WordsOf) -> EntityWords:
        """Return the words of the entries of one entity, which have one name.

        `words_of` is `distinctive_words`, or a cached version of it.
        """
        name = words_of(entity_name(entries[0]))
        texts = dict.fromkeys(
            text[:_MAX_TEXT] for entry in entries for text in all_texts(entry, _MIN_CONFIDENCE)
        )
        return EntityWords(name, frozenset().union(*map(words_of, texts)) - name)

    def weight(self, word: str) -> float:
        """Return how much a printed word speaks for the entity, 0 to 1."""
        return 1.0 if word in self.name else _TEXT_WEIGHT if word in self.others else 0.0


@dataclass(frozen=True)
class PrintMatch:
    """Entities ranked by their looks and by the words on the image."""

    ranking: EntityRanking
    words: tuple[str, ...] = ()
    """Words on the image that some entity has."""
    name_coverage: float = 0.0
    """Share of the likeliest entity's name that was read, 0 to 1; rare words count more, and other
    words in the place of missing ones count against it."""


def match_print(
    ranking: EntityRanking,
    printed: PrintedText,
    entities: Sequence[EntityWords],
    look_is_known: bool = True,
) -> PrintMatch:
    """Raise the share of the entities that have the words on an image.

    `entities` has the words of each entity of the ranking. The fewer entities have a word, the more
    it counts (inverse document frequency). `look_is_known`: whether the image looks like one of
    them. The features, which decide that, stay as they are.
    """
    matches = _closest_words(printed, entities)
    confidences: dict[str, float] = {}
    for printed_word, (word, similarity) in matches.items():
        confidence = printed.words[printed_word] * similarity
        confidences[word] = max(confidence, confidences.get(word, 0.0))
    if not confidences:
        return PrintMatch(ranking)
    words = sorted(confidences)
    weights = np.array([[e.weight(word) for word in words] for e in entities])  # (entities, words)
    frequencies = np.maximum(weights.sum(axis=0), 1.0)
    rarity = np.log(len(entities) / frequencies)
    evidence = weights @ (rarity * np.array([confidences[word] for word in words]))
    log_odds = np.minimum(_EVIDENCE_SCALE * evidence, _MAX_EVIDENCE)
    looks = np.array(ranking.shares) ** (1.0 if look_is_known else _UNKNOWN_LOOK_SCALE)
    shares = looks * np.exp(log_odds)
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable").tolist()
    reordered = replace(
        ranking,
        entities=tuple(ranking.entities[i] for i in order),
        shares=tuple(shares[order].tolist()),
        cosines=tuple(ranking.cosines[i] for i in order),
        nearest=tuple(ranking.nearest[i] for i in order),
    )
    best = entities[order[0]]
    num_other_words = sum(
        confidence >= _CERTAIN
        and (len(word) >= _MIN_OTHER_LETTERS or is_chinese(word))
        and not (word in matches and best.weight(matches[word][0]))
        for word, confidence in printed.words.items()
    )
    rarities = _rarities(best.name, [entity.name for entity in entities])
    coverage = _coverage(rarities, confidences, num_other_words)
    return PrintMatch(reordered, tuple(words), coverage)


def _closest_words(
    printed: PrintedText, entities: Sequence[EntityWords]
) -> dict[str, tuple[str, float]]:
    """Return the word of the entities that each printed word matches, with their similarity.

    Only words of names may be misread: a long text has a word like any other.
    """
    names = FuzzyVocabulary(word for entity in entities for word in entity.name)
    others = frozenset().union(*(entity.others for entity in entities))
    matches = {}
    for word in printed.words:
        match, similarity = (word, 1.0) if word in others else names.closest(word)
        if match:
            matches[word] = (match, similarity)
    return matches


def _rarities(name: frozenset[str], names: Sequence[frozenset[str]]) -> dict[str, float]:
    """Return how rare each word of a name is among `names` (inverse document frequency)."""
    frequencies = {word: sum(word in other for other in names) for word in name}
    return {w: math.log((len(names) + 1) / (n + 0.5)) + 0.2 for w, n in frequencies.items()}


def _coverage(
    rarities: Mapping[str, float], confidences: Mapping[str, float], num_other_words: int
) -> float:
    """Return the share of a name that was read, 0 to 1; `rarities` are those of its words.

    A word that is missing counts twice if there is another one that may stand in its place:
    "Ivanov Dental Clinic" is not "Petrov Dental Clinic".
    """
    missing = sorted((r for word, r in rarities.items() if word not in confidences), reverse=True)
    total = sum(rarities.values()) + sum(missing[:num_other_words])
    return sum(confidences.get(w, 0.0) * r for w, r in rarities.items()) / total if total else 0.0


def distinctive_words(text: str) -> frozenset[str]:
    """Return the stems of a text's words, without whole numbers and words of one or two letters.

    A Chinese word may be short.
    """
    return frozenset(
        word
        for word in content_words(text)
        if not word.isdecimal() and (len(word) >= _MIN_LETTERS or is_chinese(word))
    )
