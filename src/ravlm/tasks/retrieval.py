"""Retrieval in both directions: each text finds its picture, and the picture each of its texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ravlm.metrics import mean_reciprocal_rank, ndcg_at, recall_at
from ravlm.records import Evidence, Example, Score
from ravlm.tasks.base import Prediction, Task, strings

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

_DEPTH = 10


class Retrieval(Task):
    """Rows of `image` and `texts`, whose entries are in the base under the same ids.

    A row gives a query for each text (it looks for pictures), and one for the picture (it looks for
    texts)."""

    name: ClassVar[str] = "retrieval"
    needs: ClassVar[tuple[str, ...]] = ("image", "texts")
    chief: ClassVar[str] = "recall@10"
    k: ClassVar[int | None] = _DEPTH
    guarded: ClassVar[bool] = False

    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        rankings = [
            [hit.entry.id for hit in each.hits]
            for each in evidence or self.evidence(model, examples, _DEPTH)
        ]
        return [Prediction(e.id, ids=tuple(ids)) for e, ids in zip(examples, rankings, strict=True)]

    def evidence(
        self, model: RetrievalAugmentedVLM, examples: Sequence[Example], k: int
    ) -> list[Evidence]:
        found: dict[str, Evidence] = {}
        for modality, some in (
            ("image", [e for e in examples if e.text]),
            ("text", [e for e in examples if not e.text]),
        ):
            queries = [{"text": e.text} if e.text else {"image": e.image} for e in some]
            hits = model.kb.search_many(queries, max(k, _DEPTH), modality) if some else []  # type: ignore[arg-type]
            found |= {e.id: Evidence(tuple(each)) for e, each in zip(some, hits, strict=True)}
        return [found[e.id] for e in examples]

    def _scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        ranked, relevant = [p.ids for p in predictions], [e.references for e in examples]
        found = {f"recall@{k}": recall_at(ranked, relevant, k) for k in (1, 5, 10)}
        return found | {
            "mrr": mean_reciprocal_rank(ranked, relevant),
            "ndcg@10": ndcg_at(ranked, relevant, 10),
        }

    def _examples(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        for place, text in enumerate(strings(values, "texts"), 1):
            yield replace(
                example,
                id=f"{example.id} text {place}",
                text=text,
                image=None,
                references=(example.id,),
            )
        yield replace(example, id=f"{example.id} image", references=(example.id,))
