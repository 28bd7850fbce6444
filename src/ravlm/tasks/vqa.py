"""VQA: questions about an image, or without one. Any of the references is a right answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ravlm.errors import BrokenData
from ravlm.metrics import containment, exact_match, token_f1, vqa_accuracy
from ravlm.records import Evidence, Example, Score
from ravlm.tasks.base import Prediction, Task, predictions_of, string_list

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

_MIN_ANNOTATORS = 4
"""Soft accuracy equals the official VQA evaluation from this many answers per example."""
_MAX_EXTRA_WORDS = 12
"""An answer that contains a reference is right if it has at most this many other words."""


class VQA(Task):
    """Rows of `question`, `answers` and, optionally, `image` and `entity` (the name of the entry
    that has the answer)."""

    name: ClassVar[str] = "vqa"
    required_keys: ClassVar[tuple[str, ...]] = ("question", "answers")
    primary_metric: ClassVar[str] = "accuracy"
    has_risk_curve: ClassVar[bool] = True

    def parse_row(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        question = values["question"]
        if not isinstance(question, str) or not question.strip():
            raise BrokenData(f'"question" is {question!r}; it must be a non-empty string.')
        yield replace(example, text=question, references=string_list(values, "answers"))

    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        questions = [example.text for example in examples]
        images = [example.image for example in examples]
        return predictions_of(examples, model.ask(questions, images, evidence=evidence))

    def compute_scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        answers = ["" if p.abstained else p.text for p in predictions]  # never right
        references = [example.references for example in examples]
        scores = {
            "accuracy": containment(answers, references, _MAX_EXTRA_WORDS),
            "exact-match": exact_match(answers, references),
            "token-f1": token_f1(answers, references),
        }
        if all(len(texts) >= _MIN_ANNOTATORS for texts in references):
            scores["vqa-accuracy"] = vqa_accuracy(answers, references)
        return scores

    def gold_query(self, example: Example) -> str:
        entity = example.metadata.get("entity")
        if isinstance(entity, str) and entity:
            return entity
        return f"{example.text} {example.references[0]}"
