"""Finds the evidence for a request: by its picture, by its words, or both. Knows no generator.

A picture's neighbours are compared again in the base's own metric, entity by entity; words lead to
entries by the names in them. What was found carries how likely it is that the thing asked about is
in the base at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ravlm.data.facts import entity_key, entity_name, read_facts
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Evidence, Hit, ImageSource, Modality
from ravlm.retrieval.abstention import LEAST_BY_WORDS, known_by_words
from ravlm.retrieval.calibration import BaseCalibration, fit_or_load
from ravlm.retrieval.entity_linking import link, unmatched_entity_name
from ravlm.retrieval.visual_entities import CANDIDATES, FEATURES, recognise
from ravlm.search.filter_parser import Where
from ravlm.search.options import SearchOptions

Moved: TypeAlias = "Callable[[np.ndarray, str], np.ndarray]"
_TEXT_CANDIDATES = 32
_LEAST_BY_NAME = 0.5
_FEW_FACTS = 2
_SIBLINGS = 16
_BESIDE = 0.1
"""What the texts that describe a picture weigh beside an entity that was recognised in it."""


class Retriever:
    """Finds evidence in one base."""

    def __init__(self, kb: KnowledgeBase, max_false_answers: float | None = None) -> None:
        self.kb, self._max_false_answers = kb, max_false_answers
        self._known: BaseCalibration | None = None
        self._seen_change = -1

    def acquaintance(self) -> BaseCalibration:
        """The metric and the judge of the base as it is now."""
        change = self.kb.change
        if self._known is None or self._seen_change != change:
            self._known, self._seen_change = fit_or_load(self.kb), change
        return self._known

    def asked(self, text: str, seen: Evidence | None, k: int, where: Where = None) -> Evidence:
        """What a question is about: its picture, of which `seen` is the evidence, unless that is
        not known or the words ask for something else by name."""
        if seen is None:
            return self.by_words(text, k, where)
        if not text or (
            seen.sufficient and not unmatched_entity_name(text, self.kb.encoder.gloss, seen.hits)
        ):
            return seen
        named = self.by_words(text, k, where)
        return named if named.subject or seen.sufficient else seen

    def by_pictures(
        self,
        images: Sequence[ImageSource],
        k: int,
        where: Where = None,
        query: Moved | None = None,
        reads: Modality = "image",
    ) -> list[Evidence]:
        """For each picture the k likeliest entities, an entry each; and texts without a picture
        that describe it.

        `query`: a generator's own, from the pictures' vectors. `reads` "text": the entries whose
        texts describe the picture best, whatever pictures they have."""
        began = time.perf_counter()
        vectors = self._encoded(images)
        if query is not None:
            vectors = query(vectors, self.kb.encoder.fingerprint)
        encoded = time.perf_counter()
        queries = [{"vector": vector} for vector in vectors]
        texts = self.kb.search_many(queries, max(k, _TEXT_CANDIDATES), "text", where)
        reads = reads if any(texts) else "image"
        near: list[list[Hit]] = [[]] * len(texts)
        if reads == "image":
            near = self.kb.search_many(queries, max(k, CANDIDATES), "image", where)
        found = []
        for vector, like, described in zip(vectors, near, texts, strict=True):
            shown = self._recognised(vector, like, k, where) if like else Evidence()
            alone = [hit for hit in described if hit.entry.image is None or reads == "text"]
            evidence = _joined(shown, self._described(alone, k), k)
            seconds = {"encode": encoded - began, "find": time.perf_counter() - encoded}
            trace = {
                "seconds": {
                    stage: round(spent / len(images), 4) for stage, spent in seconds.items()
                }
            }
            found.append(replace(evidence, trace={**evidence.trace, **trace}))
        return found

    def by_words(self, text: str, k: int, where: Where = None) -> Evidence:
        """The entries that a question or a topic is about; none where no entry's name or words are
        in it."""
        began = time.perf_counter()
        english = self.kb.encoder.gloss(text)
        hits = self._text_hits(text, english, where)
        linked = link(text, english, hits)
        trace = {
            "found by": "name" if linked.subject else "words",
            "query": english if english != text else text,
            "known": round(linked.known, 4),
            "seconds": {"find": round(time.perf_counter() - began, 4)},
        }
        return Evidence(
            linked.hits[:k], linked.weights[:k], linked.known, _LEAST_BY_NAME, linked.subject, trace
        )

    def by_likeness(self, text: str, k: int, where: Where = None) -> Evidence:
        """The k entries whose texts are most like `text`, whatever they are about."""
        hits = self.kb.search(text=text, k=k, where=where)
        return Evidence(
            tuple(hits), _shares([hit.score for hit in hits]), trace={"found by": "likeness"}
        )

    def of_talk(
        self, said: Sequence[str], picture: ImageSource | None, k: int, where: Where = None
    ) -> Evidence:
        """What the last of the things said is about: what it names, else the picture, else what was
        named last."""
        last = self.by_words(said[-1], k, where)
        if last.subject:
            return last
        if picture is not None:
            return self.asked(said[-1], self.by_pictures([picture], k, where)[0], k, where)
        for text in reversed(said[:-1]):
            earlier = self.by_words(text, k, where)
            if earlier.subject:
                return replace(earlier, subject="")
        return last

    def _encoded(self, images: Sequence[ImageSource]) -> np.ndarray:
        """Vectors (n, dim) of pictures; one that is given several times is encoded once."""
        keys = [
            image if isinstance(image, str | bytes | os.PathLike) else id(image) for image in images
        ]
        place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        first = dict(zip(reversed(keys), reversed(images), strict=True))
        return self.kb.encoder.encode_images([first[key] for key in place])[
            [place[key] for key in keys]
        ]

    def _text_hits(self, text: str, english: str, where: Where) -> list[Hit]:
        """Entries whose texts share words or meaning with a question, one ranking after the other,
        none twice."""
        found: dict[str, Hit] = {}
        for words in dict.fromkeys((text, english)):
            for options in (SearchOptions("keyword"), SearchOptions("dense")):
                hits = self.kb.search(
                    text=words, k=_TEXT_CANDIDATES, modality="text", where=where, options=options
                )
                for hit in hits:
                    found.setdefault(hit.entry.id, hit)
        return list(found.values())

    def _recognised(
        self, vector: np.ndarray, near: Sequence[Hit], k: int, where: Where
    ) -> Evidence:
        known = self.acquaintance()
        stored = self.kb.image_vectors([hit.entry.id for hit in near])
        candidates = np.stack([stored[hit.entry.id] for hit in near])
        query = vector[None]
        if known.metric is not None:
            candidates, query = known.metric(candidates), known.metric(query)
        entities = [entity_key(hit.entry) for hit in near]
        seen = recognise(query[0], candidates, entities)
        hits = []
        for place, entity, cosine in list(
            zip(seen.nearest, seen.entities, seen.cosines, strict=True)
        )[:k]:
            own = [hit for hit, name in zip(near, entities, strict=True) if name == entity]
            hits.append(replace(self._telling(near[place], own, where), score=cosine))
        probability = known.judge.known(seen.features)
        least = known.judge.threshold(self._max_false_answers)
        trace: dict[str, Any] = {
            "found by": "picture",
            "known": round(probability, 4),
            "least": round(least, 4),
        }
        trace |= {
            name: round(float(value), 4)
            for name, value in zip(FEATURES, seen.features, strict=True)
        }
        return Evidence(tuple(hits), seen.shares[:k], probability, least, trace=trace)

    def _telling(self, nearest: Hit, own: Sequence[Hit], where: Where) -> Hit:
        """The nearest hit of an entity, or where its entry says little, an entry of the same entity
        that says more."""
        if len(read_facts(nearest.entry)) > _FEW_FACTS:
            return nearest
        name = entity_name(nearest.entry)
        siblings = list(own)
        if name:
            options = SearchOptions(method="keyword")
            found = self.kb.search(
                text=name, k=_SIBLINGS, modality="text", where=where, options=options
            )
            siblings += [hit for hit in found if entity_key(hit.entry) == entity_key(nearest.entry)]
        return max([nearest, *siblings], key=lambda hit: len(read_facts(hit.entry)))

    def _described(self, hits: Sequence[Hit], k: int) -> Evidence:
        """Texts without a picture, as evidence on a picture that they may describe."""
        if not hits:
            return Evidence()
        known = self.acquaintance()
        mean, spread = known.chance
        likeness = [(hit.score - mean) / spread for hit in hits[:k]]
        probability = known_by_words(likeness[0], known.texts)
        trace = {
            "found by": "texts for the picture",
            "known": round(probability, 4),
            "least": LEAST_BY_WORDS,
        }
        return Evidence(
            tuple(hits[:k]), _shares(likeness, 2.0), probability, LEAST_BY_WORDS, trace=trace
        )


def _joined(shown: Evidence, described: Evidence, k: int) -> Evidence:
    """What a picture shows and what texts say of it: the first where that is known, the second
    where only it is."""
    if not described.sufficient:
        return shown if shown.hits else described
    if not shown.sufficient:
        return described
    pairs = list(zip(shown.hits, shown.weights, strict=True))
    pairs += [(h, _BESIDE * w) for h, w in zip(described.hits, described.weights, strict=True)]
    total = sum(weight for _, weight in pairs)
    best = sorted(pairs, key=lambda pair: -pair[1])[:k]
    return replace(
        shown, hits=tuple(hit for hit, _ in best), weights=tuple(w / total for _, w in best)
    )


def _shares(scores: Sequence[float], sharpness: float = 15.0) -> tuple[float, ...]:
    """Scores of hits as shares that sum to 1."""
    if not scores:
        return ()
    weights = np.exp(sharpness * (np.array(scores) - max(scores)))
    return tuple((weights / weights.sum()).tolist())
