"""Retrieval in both directions: from each text to its image, and from the image to its texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ravlm.metrics import mean_reciprocal_rank, ndcg_at, recall_at
from ravlm.records import Evidence, Example, Hit, Modality, Score
from ravlm.tasks.base import Prediction, Task, string_list

if TYPE_CHECKING:
    from ravlm.knowledge.base import KnowledgeBase
    from ravlm.model import RetrievalAugmentedVLM

_DEPTH = 10


class Retrieval(Task):
    """Rows of `image` and `texts` whose entries are in the base under the same ids.

    A row makes one query for each text (it searches images) and one for the image (it searches
    texts)."""

    name: ClassVar[str] = "retrieval"
    required_keys: ClassVar[tuple[str, ...]] = ("image", "texts")
    primary_metric: ClassVar[str] = "recall@10"
    num_evidence: ClassVar[int | None] = _DEPTH
    leakage_guard: ClassVar[bool] = False
    ranks_entries: ClassVar[bool] = True
    outputs_text: ClassVar[bool] = False

    def parse_row(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        relevant = (example.id,)
        example = replace(example, metadata={"group": example.id, **example.metadata})
        for number, text in enumerate(string_list(values, "texts"), 1):
            id_ = f"{example.id} text {number}"
            yield replace(example, id=id_, text=text, image=None, references=relevant)
        yield replace(example, id=f"{example.id} image", references=relevant)

    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        rankings = evidence or self.evidence(model, examples, _DEPTH)
        return [
            Prediction(example.id, ids=tuple(hit.entry.id for hit in ranking.hits))
            for example, ranking in zip(examples, rankings, strict=True)
        ]

    def evidence(
        self, model: RetrievalAugmentedVLM, examples: Sequence[Example], k: int
    ) -> list[Evidence]:
        text_queries = {e.id: {"text": e.text} for e in examples if e.text}
        image_queries = {e.id: {"image": e.image} for e in examples if not e.text}
        depth = max(k, _DEPTH)
        hits = _search(model.kb, text_queries, depth, "image")
        hits |= _search(model.kb, image_queries, depth, "text")
        return [Evidence(tuple(hits[example.id])) for example in examples]

    def compute_scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        rankings = [prediction.ids for prediction in predictions]
        relevant = [example.references for example in examples]
        scores = {f"recall@{k}": recall_at(rankings, relevant, k) for k in (1, 5, 10)}
        scores["mrr"] = mean_reciprocal_rank(rankings, relevant)
        scores["ndcg@10"] = ndcg_at(rankings, relevant, 10)
        return scores


def _search(
    kb: KnowledgeBase, queries: Mapping[str, Mapping[str, Any]], k: int, modality: Modality
) -> dict[str, list[Hit]]:
    """Return the k best hits of each query, by the query's key."""
    if not queries:
        return {}
    return dict(zip(queries, kb.search_many(list(queries.values()), k, modality), strict=True))
