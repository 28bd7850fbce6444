"""Captioning: a picture is described; the references are people's captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ravlm.data.text import is_chinese
from ravlm.metrics import caption_scores
from ravlm.records import Evidence, Example, Score
from ravlm.tasks.base import Prediction, Task, answers, strings

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM


class Captioning(Task):
    """Rows of `image` and `texts`. Chinese references are cut into Chinese words."""

    name: ClassVar[str] = "captioning"
    needs: ClassVar[tuple[str, ...]] = ("image", "texts")
    chief: ClassVar[str] = "cider"

    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        return answers(
            examples,
            model.caption([e.image for e in examples if e.image is not None], evidence=evidence),
        )

    def _scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        references = [e.references for e in examples]
        chinese = sum(is_chinese(texts[0]) for texts in references) * 2 > len(references)
        return caption_scores([p.text for p in predictions], references, "zh" if chinese else "ptb")

    def _examples(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        yield replace(example, references=strings(values, "texts"))
