"""Captioning: describe an image. The references are captions written by people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ravlm.data.text import is_chinese
from ravlm.metrics import caption_scores
from ravlm.records import Evidence, Example, Score
from ravlm.tasks.base import Prediction, Task, predictions_of, string_list

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM


class Captioning(Task):
    """Rows of `image` and `texts`. Captions are segmented as Chinese if most references are."""

    name: ClassVar[str] = "captioning"
    required_keys: ClassVar[tuple[str, ...]] = ("image", "texts")
    primary_metric: ClassVar[str] = "cider"

    def parse_row(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        yield replace(example, references=string_list(values, "texts"))

    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        images = [example.image for example in examples if example.image is not None]
        return predictions_of(examples, model.caption(images, evidence=evidence))

    def compute_scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        captions = [prediction.text for prediction in predictions]
        references = [example.references for example in examples]
        num_chinese = sum(is_chinese(texts[0]) for texts in references)
        is_mostly_chinese = num_chinese > len(references) / 2
        return caption_scores(captions, references, "zh" if is_mostly_chinese else "ptb")
