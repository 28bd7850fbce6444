"""Questions, about a picture or in words alone; any of the references is a right answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ravlm.errors import BrokenData
from ravlm.metrics import containment, exact_match, token_f1, vqa_accuracy
from ravlm.records import Evidence, Example, Score
from ravlm.tasks.base import Prediction, Task, answers, strings

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

_PEOPLE = 4
"""From so many answers an example on, soft accuracy is what the VQA evaluation computes."""
_WORDS_MORE = 12


class VQA(Task):
    """Rows of `question`, `answers`, and `image` where there is one; `entity` names the entry that
    has the answer."""

    name: ClassVar[str] = "vqa"
    needs: ClassVar[tuple[str, ...]] = ("question", "answers")
    chief: ClassVar[str] = "accuracy"

    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        questions, images = [e.text for e in examples], [e.image for e in examples]
        return answers(examples, model.ask(questions, images, evidence=evidence))

    def gold_query(self, example: Example) -> str:
        entity = example.metadata.get("entity")
        return (
            entity
            if isinstance(entity, str) and entity
            else f"{example.text} {example.references[0]}"
        )

    def _scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        texts = ["" if p.abstained else p.text for p in predictions]
        references = [e.references for e in examples]
        found = {
            "accuracy": containment(texts, references, _WORDS_MORE),
            "exact-match": exact_match(texts, references),
            "token-f1": token_f1(texts, references),
        }
        if all(len(right) >= _PEOPLE for right in references):
            found["vqa-accuracy"] = vqa_accuracy(texts, references)
        return found

    def _examples(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        question = values["question"]
        if not isinstance(question, str) or not question.strip():
            raise BrokenData(f'"question" is {question!r}; a text is needed.')
        yield replace(example, text=question, references=strings(values, "answers"))
