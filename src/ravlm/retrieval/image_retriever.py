"""Retrieve the entries that an image shows, and texts without an image that describe it.

The neighbors of the image are compared again in the base's own metric, entity by entity."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from ravlm.data.facts import entity_key, entity_name, read_facts
from ravlm.knowledge.base import KnowledgeBase
from ravlm.ocr.print_reader import PrintReader
from ravlm.records import Entry, Evidence, Hit, ImageSource, Modality
from ravlm.retrieval.abstention import TEXT_THRESHOLD, text_match_probability
from ravlm.retrieval.calibration import NUM_NEIGHBORS, BaseCalibration, fit_or_load
from ravlm.retrieval.entity_linking import MAX_NAME_SUPPORT
from ravlm.retrieval.image_copies import ImageProgress
from ravlm.retrieval.printed_words import (
    EntityWords,
    PrintedText,
    distinctive_words,
    match_print,
)
from ravlm.retrieval.text_retriever import NAME_THRESHOLD, softmax_weights
from ravlm.retrieval.visual_entities import CANDIDATES, FEATURES, EntityRanking, rank_entities
from ravlm.search.filter_parser import Where
from ravlm.search.options import SearchOptions

AdaptQuery: TypeAlias = Callable[[np.ndarray, str], np.ndarray]
"""Maps image vectors (n, dim), given with the fingerprint of their encoder, to query vectors."""
_TEXT_CANDIDATES = 32
_FEW_FACTS = 2
"""An entry with at most this many facts is replaced by a sibling that has more."""
_SIBLINGS = 16
_DESCRIPTION_WEIGHT = 0.1
"""Weight of the texts that describe an image, relative to the entity that was recognized in it."""
_DECISIVE_SHARE = 0.9
"""If an entity has at least this share, the words on the image are not read."""
_PRINT_CANDIDATES = 16
"""Entries that are searched by the words on an image."""
_CACHED_TEXTS = 512
"""Texts of entries whose words are cached: several questions are about one photo."""
_MAX_PRINT_QUERY = 500
"""Characters of the words on an image that are searched for."""
_KEYWORD = SearchOptions("keyword")


@dataclass(frozen=True)
class _Neighbors:
    """The stored images nearest to a query image, and the entities they rank."""

    hits: Sequence[Hit]
    entities: Sequence[str]
    """Entity of each hit."""
    ranking: EntityRanking
    printed: tuple[str, ...] = ()
    """Words on the query image that the entities have."""
    name_coverage: float = 0.0
    """Share of the likeliest entity's name that was read on the query image."""

    @property
    def pairs(self) -> Iterator[tuple[Hit, str]]:
        """Each hit with its entity."""
        return zip(self.hits, self.entities, strict=True)


class ImageRetriever:
    """Retrieves by image from one knowledge base."""

    def __init__(
        self,
        kb: KnowledgeBase,
        max_false_answers: float | None = None,
        progress: ImageProgress | None = None,
        print_reader: PrintReader | None = None,
    ) -> None:
        """`progress` is called while the base is calibrated, see `fit_or_load`."""
        self._kb = kb
        self._max_false_answers = max_false_answers
        self._calibration: BaseCalibration | None = None
        self._calibrated_change = -1
        self._progress = progress
        self._print_reader = print_reader or PrintReader()
        self._words_of = lru_cache(maxsize=_CACHED_TEXTS)(distinctive_words)

    @property
    def calibration(self) -> BaseCalibration:
        """The metric and the classifier of the base in its present state.

        Fitted after the base was built or has grown by a tenth, otherwise loaded.
        """
        change = self._kb.change
        if self._calibration is None or self._calibrated_change != change:
            self._calibration = fit_or_load(self._kb, self._progress)
            self._calibrated_change = change
        return self._calibration

    def retrieve(
        self,
        images: Mapping[int, ImageSource],
        k: int,
        where: Where = None,
        adapt_query: AdaptQuery | None = None,
        modality: Modality = "image",
        read_print: bool = False,
    ) -> dict[int, Evidence]:
        """Return by number the k likeliest entities of each image, one entry each, and its texts.

        `adapt_query` maps image vectors to query vectors. With modality "text" the evidence is the
        entries whose texts match an image best, with an image or not, unless a named entity, or
        an image with print on it, is recognized. With `read_print` the words on an image
        distinguish entities that look alike, and name those that it does not look like.
        """
        if not images:
            return {}
        start = time.perf_counter()
        vectors = self._encode(list(images.values()))
        if adapt_query is not None:
            vectors = adapt_query(vectors, self._kb.encoder.fingerprint)
        encoded = time.perf_counter()

        images_to_read = list(images.values()) if read_print else [None] * len(images)
        evidence = self._search(vectors, images_to_read, k, where, modality)
        seconds = {
            "encode": round((encoded - start) / len(images), 4),
            "search": round((time.perf_counter() - encoded) / len(images), 4),
        }
        return {
            number: replace(e, trace={**e.trace, "seconds": seconds})
            for number, e in zip(images, evidence, strict=True)
        }

    def _search(
        self,
        vectors: np.ndarray,
        images: Sequence[ImageSource | None],
        k: int,
        where: Where,
        modality: Modality,
    ) -> list[Evidence]:
        """Return the evidence for query vectors (n, dim).

        The words on `images` are read; None for an image whose words are not.
        """
        queries = [{"vector": vector} for vector in vectors]
        by_text = self._kb.search_many(queries, max(k, _TEXT_CANDIDATES), "text", where)
        by_image = self._kb.search_many(queries, max(k, CANDIDATES, NUM_NEIGHBORS), "image", where)
        familiarity = [self._familiarity(hits) for hits in by_image]
        entities = self._recognize(vectors, images, by_image, k, where)
        if modality == "text" and any(by_text):
            texts = [self._text_evidence(hits, k) for hits in by_text]
            pairs = zip(entities, texts, strict=True)
            chosen = [entity if _is_identified(entity) else text for entity, text in pairs]
            return list(map(_with_familiarity, chosen, familiarity))
        only_text = [[hit for hit in hits if hit.entry.image is None] for hits in by_text]
        texts = [self._text_evidence(hits, k) for hits in only_text]
        merged = [_merge(*pair, k) for pair in zip(entities, texts, strict=True)]
        return list(map(_with_familiarity, merged, familiarity))

    def _familiarity(self, hits: Sequence[Hit]) -> float:
        """Return how familiar an image is to the base, or 1 if none of its neighbors has a text.

        Being like photos that nothing describes does not tell that a text of the base fits.
        """
        if not any(hit.entry.texts for hit in hits[:NUM_NEIGHBORS]):
            return 1.0
        return self.calibration.familiarity([hit.score for hit in hits])

    def _encode(self, images: Sequence[ImageSource]) -> np.ndarray:
        """Return vectors (n, dim) of images; an image that occurs several times is encoded once."""
        keys = [
            image if isinstance(image, str | bytes | os.PathLike) else id(image) for image in images
        ]
        distinct: dict[Any, ImageSource] = {}
        for key, image in zip(keys, images, strict=True):
            distinct.setdefault(key, image)
        rows = {key: row for row, key in enumerate(distinct)}
        vectors = self._kb.encoder.encode_images(list(distinct.values()), role="query")
        return vectors[[rows[key] for key in keys]]

    def _recognize(
        self,
        vectors: np.ndarray,
        images: Sequence[ImageSource | None],
        by_image: Sequence[Sequence[Hit]],
        k: int,
        where: Where,
    ) -> list[Evidence]:
        """Return the likeliest entities of each image, as evidence."""
        calibration = self.calibration
        neighbors = [
            self._compare(vector, hits, calibration)
            for vector, hits in zip(vectors, by_image, strict=True)
        ]
        printed_texts = {
            row: self._read(image, neighbors[row], calibration)
            for row, image in enumerate(images)
            if image is not None
        }
        readable = {row: printed for row, printed in printed_texts.items() if printed.words}
        queries = [{"text": printed.text[:_MAX_PRINT_QUERY]} for printed in readable.values()]
        by_print = self._kb.search_many(queries, _PRINT_CANDIDATES, "text", where, _KEYWORD)
        for (row, printed), hits in zip(readable.items(), by_print, strict=True):
            neighbors[row] = self._with_print(
                vectors[row], neighbors[row], printed, hits, calibration
            )
        siblings = self._siblings([n for n in neighbors if n is not None], k, where)
        return [
            Evidence() if n is None else self._entity_evidence(n, siblings, k, calibration)
            for n in neighbors
        ]

    def _compare(
        self, vector: np.ndarray, hits: Sequence[Hit], calibration: BaseCalibration
    ) -> _Neighbors | None:
        """Rank the entities of hits in the base's own metric.

        Entries without an image are as near as unrelated ones. Those that lost their image since
        the search are skipped; None if no hit is left.
        """
        stored = self._kb.image_vectors([hit.entry.id for hit in hits])
        hits = [hit for hit in hits if hit.entry.id in stored or hit.entry.image is None]
        if not hits:
            return None
        query = vector[None]  # (1, dim)
        candidates = np.zeros((len(hits), vector.shape[-1]), np.float32)
        rows = [row for row, hit in enumerate(hits) if hit.entry.id in stored]
        if rows:
            images = np.stack([stored[hits[row].entry.id] for row in rows])
            metric = calibration.metric
            if metric is not None:
                images, query = metric(images), metric(query)
            candidates[rows] = images
        entities = [entity_key(hit.entry) for hit in hits]
        return _Neighbors(hits, entities, rank_entities(query[0], candidates, entities))

    def _read(
        self, image: ImageSource, neighbors: _Neighbors | None, calibration: BaseCalibration
    ) -> PrintedText:
        """Return the words on an image, if it alone leaves a doubt about the entity it shows."""
        if neighbors is not None and not self._print_reader.reads_all:
            is_known = self._is_known(neighbors.ranking, calibration)
            if is_known and neighbors.ranking.shares[0] >= _DECISIVE_SHARE:
                return PrintedText()
        return PrintedText.of(self._print_reader.read(image))

    def _is_known(self, ranking: EntityRanking, calibration: BaseCalibration) -> bool:
        """Return whether an image looks like the likeliest entity of its ranking."""
        support, min_support = self._support(ranking, calibration)
        return support >= min_support

    def _support(self, ranking: EntityRanking, calibration: BaseCalibration) -> tuple[float, float]:
        """Return the probability that an entity of a ranking is shown, and its threshold."""
        classifier = calibration.classifier
        min_support = classifier.threshold(self._max_false_answers)
        return classifier.probability(ranking.features), min_support

    def _with_print(
        self,
        vector: np.ndarray,
        neighbors: _Neighbors | None,
        printed: PrintedText,
        by_print: Sequence[Hit],
        calibration: BaseCalibration,
    ) -> _Neighbors | None:
        """Rank the neighbors of an image and the hits of its words, by look and by words."""
        nearest = [] if neighbors is None else list(neighbors.hits)
        known = {hit.entry.id for hit in nearest}
        others = [hit for hit in by_print if hit.entry.id not in known]
        merged = self._compare(vector, [*nearest, *others], calibration)
        if merged is None:
            return None
        # Whether the image looks like any of them is decided by its neighbors alone.
        features = np.zeros(len(FEATURES)) if neighbors is None else neighbors.ranking.features
        ranking = replace(merged.ranking, features=features)
        members: dict[str, list[Entry]] = {}
        for hit, entity in merged.pairs:
            members.setdefault(entity, []).append(hit.entry)
        words = [EntityWords.of(members[entity], self._words_of) for entity in ranking.entities]
        match = match_print(ranking, printed, words, self._is_known(ranking, calibration))
        return replace(
            merged, ranking=match.ranking, printed=match.words, name_coverage=match.name_coverage
        )

    def _siblings(
        self, neighbors: Sequence[_Neighbors], k: int, where: Where
    ) -> dict[str, list[Hit]]:
        """Return entries by the name of the recognized entities whose nearest entry says little."""
        nearest = [n.hits[row].entry for n in neighbors for row in n.ranking.nearest[:k]]
        names = {entity_name(entry) for entry in nearest if len(read_facts(entry)) <= _FEW_FACTS}
        queries = [{"text": name} for name in sorted(names) if name]
        if not queries:
            return {}
        rankings = self._kb.search_many(queries, _SIBLINGS, "text", where, _KEYWORD)
        return {query["text"]: hits for query, hits in zip(queries, rankings, strict=True)}

    def _entity_evidence(
        self,
        neighbors: _Neighbors,
        siblings: dict[str, list[Hit]],
        k: int,
        calibration: BaseCalibration,
    ) -> Evidence:
        """Return the ranked entities as evidence, with the probability that one is shown."""
        ranking = neighbors.ranking
        hits = []
        for row, entity, cosine in zip(
            ranking.nearest[:k], ranking.entities[:k], ranking.cosines[:k], strict=True
        ):
            same_entity = [hit for hit, name in neighbors.pairs if name == entity]
            same_entity += siblings.get(entity_name(neighbors.hits[row].entry), [])
            hit = _most_informative(neighbors.hits[row], same_entity)
            hits.append(replace(hit, score=cosine))

        support, min_support = self._support(ranking, calibration)
        by_print = support < min_support and neighbors.name_coverage > NAME_THRESHOLD
        if by_print:
            support = min(MAX_NAME_SUPPORT, neighbors.name_coverage)
            min_support = NAME_THRESHOLD
        trace: dict[str, Any] = {
            "retrieved by": "print" if by_print else "image",
            "support": round(support, 4),
            "min_support": round(min_support, 4),
        }
        for name, value in zip(FEATURES, ranking.features, strict=True):
            trace[name] = round(float(value), 4)
        if neighbors.printed:
            trace["printed"] = list(neighbors.printed)
            trace["name_coverage"] = round(neighbors.name_coverage, 4)
        return Evidence(
            hits=tuple(hits),
            weights=ranking.shares[:k],
            support=support,
            min_support=min_support,
            recognized=support >= min_support,
            trace=trace,
        )

    def _text_evidence(self, hits: Sequence[Hit], k: int) -> Evidence:
        """Return texts as evidence on an image that they may describe."""
        if not hits:
            return Evidence()
        calibration = self.calibration
        unrelated = calibration.unrelated_cosines
        z_scores = [(hit.score - unrelated.mean) / unrelated.std for hit in hits[:k]]
        support = text_match_probability(z_scores[0], calibration.num_texts)
        trace = {
            "retrieved by": "texts for the image",
            "support": round(support, 4),
            "min_support": TEXT_THRESHOLD,
        }
        weights = softmax_weights(z_scores, sharpness=2.0)
        return Evidence(tuple(hits[:k]), weights, support, TEXT_THRESHOLD, trace=trace)


def _most_informative(nearest: Hit, same_entity: Sequence[Hit]) -> Hit:
    """Return the nearest hit, or if it says little, the hit of its entity with the most facts."""
    if len(read_facts(nearest.entry)) > _FEW_FACTS:
        return nearest
    key = entity_key(nearest.entry)
    siblings = [hit for hit in same_entity if entity_key(hit.entry) == key]
    return max([nearest, *siblings], key=lambda hit: len(read_facts(hit.entry)))


def _is_identified(evidence: Evidence) -> bool:
    """Return whether an entity was recognized that has a name, or print on its image."""
    entry = evidence.hits[0].entry if evidence.recognized else Entry()
    return bool(entry.regions or entity_name(entry))


def _with_familiarity(evidence: Evidence, familiarity: float) -> Evidence:
    trace = {**evidence.trace, "familiarity": round(familiarity, 4)}
    return replace(evidence, familiarity=familiarity, trace=trace)


def _merge(entities: Evidence, texts: Evidence, k: int) -> Evidence:
    """Merge what an image shows with the texts that describe it.

    If only one of them is sufficient, that one is the evidence.
    """
    if not texts.sufficient:
        return entities if entities.hits else texts
    if not entities.sufficient:
        return texts
    pairs = list(zip(entities.hits, entities.weights, strict=True))
    pairs += [
        (hit, _DESCRIPTION_WEIGHT * weight)
        for hit, weight in zip(texts.hits, texts.weights, strict=True)
    ]
    total = sum(weight for _, weight in pairs)
    best = sorted(pairs, key=lambda pair: -pair[1])[:k]
    hits = tuple(hit for hit, _ in best)
    return replace(entities, hits=hits, weights=tuple(weight / total for _, weight in best))
