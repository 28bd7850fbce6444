"""The evidence of each arm: retrieved, random, from an oracle, or none."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.data.facts import entity_key
from ravlm.evaluation.arms import Arm
from ravlm.evaluation.kb_subset import KnowledgeBaseSubset
from ravlm.records import CLOSED_BOOK, Evidence, Example, Hit, Modality
from ravlm.retrieval.leakage import leaks, spare_hits, without_leaks
from ravlm.search.options import SearchOptions

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM
    from ravlm.tasks import Task

_RANDOM_POOL = 2000


class ArmEvidence:
    """The evidence of each arm for the examples of a task; arms share what was retrieved."""

    def __init__(self, task: Task, model: RetrievalAugmentedVLM, max_k: int, seed: int = 0) -> None:
        """`max_k` is the largest k of any arm; the others read the first k of the same hits."""
        self.task = task
        self.model = model
        self._spare_hits = spare_hits(task.examples())
        """Hits retrieved beyond k, to replace those that the leakage guard removes."""
        self.depth = max_k + self._spare_hits
        self.seed = seed
        self._retrieved: dict[tuple[str, float], Evidence] = {}
        self._subset_models: dict[float, RetrievalAugmentedVLM] = {}
        self._random_pool: list[Hit] | None = None

    def for_arm(self, arm: Arm, examples: Sequence[Example]) -> list[Evidence]:
        """Return what `arm` reads for each of `examples`."""
        if arm.is_closed_book:
            return [CLOSED_BOOK] * len(examples)
        if arm.kind.evidence == "random":
            return [_trusted(self._random_hits(example, arm.k)) for example in examples]
        if arm.kind.evidence == "oracle":
            return [_trusted(self._oracle_hits(example, arm.k)) for example in examples]
        evidence = self._retrieve(arm, examples)
        if arm.noise:
            pairs = zip(evidence, examples, strict=True)
            evidence = [self._add_noise(item, example, arm.noise) for item, example in pairs]
        if arm.kind.baseline is not None:  # baselines never abstain
            evidence = [replace(item, min_support=0.0) for item in evidence]
        return evidence

    def _retrieve(self, arm: Arm, examples: Sequence[Example]) -> list[Evidence]:
        new = [example for example in examples if (example.id, arm.size) not in self._retrieved]
        if new:
            results = self.task.evidence(self._model(arm), new, self.depth)
            for example, evidence in zip(new, results, strict=True):
                self._retrieved[example.id, arm.size] = evidence
        return [
            self._guarded(example, self._retrieved[example.id, arm.size], arm.k)
            for example in examples
        ]

    def _guarded(self, example: Example, evidence: Evidence, k: int) -> Evidence:
        """Return the first k hits of the evidence that do not leak, with their weights."""
        guard = self.task.leakage_guard
        rows = [
            row
            for row, hit in enumerate(evidence.hits)
            if not (guard and leaks(example, hit.entry))
        ][:k]
        return replace(
            evidence,
            hits=tuple(evidence.hits[row] for row in rows),
            weights=tuple(evidence.weights[row] for row in rows) if evidence.weights else (),
        )

    def _model(self, arm: Arm) -> RetrievalAugmentedVLM:
        """Return the model over the fraction of its base that the arm searches."""
        if arm.size == 1:
            return self.model
        if arm.size not in self._subset_models:
            subset: Any = KnowledgeBaseSubset(self.model.kb, arm.size)
            self._subset_models[arm.size] = type(self.model)(
                subset, self.model.generator, self.model.k, self.model.max_false_answers
            )
        return self._subset_models[arm.size]

    def _random_hits(self, example: Example, k: int) -> list[Hit]:
        if self._random_pool is None:
            self._random_pool = self._sample_pool()
        rng = np.random.default_rng([self.seed, zlib.crc32(example.id.encode())])
        order = rng.permutation(len(self._random_pool))[: k + 1]
        return self._without_leaks(example, [self._random_pool[i] for i in order])[:k]

    def _sample_pool(self) -> list[Hit]:
        """Draw random entries by a text, or by their image if texts are not searched."""
        kb = self.model.kb
        modality: Modality = "image" if self.task.ranks_entries else "text"
        parts = kb.sample(_RANDOM_POOL, modality, self.seed)
        parts = parts or kb.sample(_RANDOM_POOL, "image", self.seed)
        return list({entry.id: Hit(entry, 0.0, part) for entry, part, _ in parts}.values())

    def _add_noise(self, evidence: Evidence, example: Example, noise: float) -> Evidence:
        """Replace each hit by a random one with the probability `noise`."""
        rng = np.random.default_rng([self.seed, 1, zlib.crc32(example.id.encode())])
        random_hits = self._random_hits(example, len(evidence.hits))
        swaps = rng.random(len(evidence.hits)) < noise
        rows = zip(evidence.hits, random_hits, swaps, strict=False)
        hits = tuple(random_hit if swap else hit for hit, random_hit, swap in rows)
        return replace(evidence, hits=hits, weights=evidence.weights[: len(hits)])

    def _oracle_hits(self, example: Example, k: int) -> list[Hit]:
        """Return entries with the name of the reference entity; without any, entries whose texts
        match the reference."""
        query = self.task.gold_query(example)
        kb = self.model.kb
        keyword = SearchOptions("keyword")
        candidates = kb.search(text=query, k=4 * k + 16, modality="text", options=keyword)
        hits = [hit for hit in candidates if entity_key(hit.entry) == query.casefold()]
        if not hits:
            hits = kb.search(text=query, k=k + self._spare_hits, modality="text")
        return self._without_leaks(example, hits)[:k]

    def _without_leaks(self, example: Example, hits: Sequence[Hit]) -> list[Hit]:
        return without_leaks(example, hits) if self.task.leakage_guard else list(hits)


def _trusted(hits: Sequence[Hit]) -> Evidence:
    """Return evidence that every generator reads: nothing abstains because of its support."""
    weights = (1 / len(hits),) * len(hits) if hits else ()
    return Evidence(tuple(hits), weights, trace={"evidence": "chosen by the arm"})
