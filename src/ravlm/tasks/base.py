"""The task interface: examples from a file, predictions of a model, and their scores.

A task defines how a model is asked and how its outputs are scored. Arms, statistics and reports are
the evaluation's part (`ravlm.evaluation`). `docs/how-to/task.md` shows how to add a task."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ravlm.data.formats import jsonl
from ravlm.data.rows import RESERVED_KEYS, Quarantined, Row, to_entry
from ravlm.errors import BrokenData, InvalidInput, NotFound, did_you_mean
from ravlm.records import Answer, Evidence, Example, Score
from ravlm.search.filter_parser import Where, read_filter
from ravlm.search.filters import compared_keys, facets, matches

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM


@dataclass(frozen=True)
class Prediction:
    """The output of a model for one example, in JSON types."""

    id: str
    """Id of the example."""
    text: str = ""
    ids: tuple[str, ...] = ()
    """Ranked ids of entries (retrieval)."""
    evidence: tuple[str, ...] = ()
    """Ids of the entries that the model read."""
    citations: tuple[str, ...] = ()
    confidence: float = 0.0
    abstained: bool = False
    image: str = ""
    """The edited image: PNG in base64."""
    region: str = ""
    """The mask of the edited region: PNG in base64."""

    @staticmethod
    def from_answer(example: Example, answer: Answer) -> Prediction:
        """Return the prediction for `example` that `answer` makes."""
        return Prediction(
            example.id,
            answer.text,
            evidence=tuple(hit.entry.id for hit in answer.evidence),
            citations=answer.citations,
            confidence=answer.confidence,
            abstained=answer.abstained,
        )


class Task(ABC):
    """The examples of one file, how a model is asked about them, and how its outputs are scored.

    Example:
        task = ravlm.tasks.VQA("questions.jsonl", where={"split": "dev"}, limit=500)
        scores = task.score(task.predict(model, task.examples()))
    """

    name: ClassVar[str]
    """The name that `ravlm compare` takes: the key in `TASKS`."""
    required_keys: ClassVar[tuple[str, ...]]
    """Keys that every row of the file must have."""
    primary_metric: ClassVar[str]
    """The metric that reports show first, and by which they choose examples to show."""
    num_evidence: ClassVar[int | None] = None
    """Number of entries to retrieve; None: as many as the model reads."""
    leakage_guard: ClassVar[bool] = True
    """Whether an example's own entry is removed from its evidence."""
    ranks_entries: ClassVar[bool] = False
    """Whether the prediction is the ranking itself: no generator runs."""
    outputs_text: ClassVar[bool] = True
    """Whether the prediction is a text that a report can show."""
    has_risk_curve: ClassVar[bool] = False
    """Whether the items of the primary metric are 1 (right) or 0 (wrong), so that risk can be
    plotted against coverage."""

    def __init__(
        self, source: str | os.PathLike[str], where: Where = None, limit: int | None = None
    ) -> None:
        """Read the JSON Lines file `source` lazily (formats: docs/comparing.md).

        `where` keeps the rows that pass this filter. `limit` keeps a random sample of that many
        examples, drawn with a fixed seed, in the file's order.

        Raises InvalidInput if `limit` is below 1."""
        if limit is not None and limit < 1:
            raise InvalidInput(f"limit is {limit}; it must be at least 1.")
        self.source = Path(source)
        self.where = where
        self.limit = limit

    # What a task defines

    @abstractmethod
    def parse_row(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        """Yield the examples of a row. `example` has the row's id, image and metadata.

        Raises BrokenData if a value is missing or malformed."""

    @abstractmethod
    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        """Return the model's predictions for `examples`, in order.

        `evidence` (one per example) replaces what the model would retrieve."""

    @abstractmethod
    def compute_scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        """Return the scores by metric; `predictions` has one per example, in order."""

    def evidence(
        self, model: RetrievalAugmentedVLM, examples: Sequence[Example], k: int
    ) -> list[Evidence]:
        """Return the evidence that `model` retrieves for each of `examples` with `k` entries."""
        texts = [example.text for example in examples]
        images = [example.image for example in examples]
        return model.retrieve(texts if any(texts) else None, images, k)

    def gold_query(self, example: Example) -> str:
        """Return the text that finds the right entry; the `oracle` arm searches with it."""
        return " ".join(example.references)

    # What every task can do

    def examples(self) -> list[Example]:
        """Return all examples, in the file's order.

        Raises NotFound if the file or an image is missing, BrokenData if a row can't be read, and
        InvalidInput for a duplicate id or a file without examples: a comparison needs all of its
        examples."""
        return list(self._examples)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash of the examples: texts, references and image paths."""
        digest = hashlib.sha256(self.name.encode())
        for example in self._examples:
            content = [example.id, _image_key(example), example.text, list(example.references)]
            digest.update(json.dumps(content).encode())
        return digest.hexdigest()

    def score(self, predictions: Iterable[Prediction]) -> dict[str, Score]:
        """Return the scores by metric; their items are in the order of the examples.

        Raises InvalidInput if predictions are missing, duplicate, or belong to no example."""
        return self.compute_scores(self._examples, self.align(predictions))

    def align(self, predictions: Iterable[Prediction]) -> list[Prediction]:
        """Return `predictions` in the order of the examples, one for each.

        Raises InvalidInput as `score` does."""
        by_id: dict[str, Prediction] = {}
        for prediction in predictions:
            if prediction.id in by_id:
                raise InvalidInput(f'There are two predictions for "{prediction.id}"; keep one.')
            by_id[prediction.id] = prediction
        example_ids = {example.id for example in self._examples}
        missing = example_ids - by_id.keys()
        if missing:
            count = f'{len(missing)} of {len(example_ids)} examples, such as "{min(missing)}"'
            raise InvalidInput(f"Predictions are missing for {count}; give one for each example.")
        for id_ in by_id:
            if id_ not in example_ids:
                raise InvalidInput(
                    f'There is a prediction for "{id_}", which is not an example of '
                    f'"{self.source}". Remove it.'
                )
        return [by_id[example.id] for example in self._examples]

    @cached_property
    def _examples(self) -> list[Example]:
        by_id: dict[str, Example] = {}
        for row in self._rows():
            for example in self._row_examples(row):
                if example.id in by_id:
                    raise InvalidInput(
                        f'{row.location}: the id "{example.id}" is a duplicate; ids must be unique.'
                    )
                by_id[example.id] = example
        if not by_id:
            filtered = " that pass the filter" if self.where is not None else ""
            raise InvalidInput(f'"{self.source}" has no examples{filtered}.')
        examples = list(by_id.values())
        if self.limit is None or self.limit >= len(examples):
            return examples
        sample = np.random.default_rng(0).permutation(len(examples))[: self.limit]
        return [examples[i] for i in np.sort(sample)]

    def _rows(self) -> Iterator[Row]:
        """Yield the rows of the file that pass the filter."""
        if not self.source.is_file():
            raise NotFound(f'The task file "{self.source}" does not exist; check the path.')
        tree = read_filter(self.where)
        keys: set[str] = set()
        for row in jsonl.read_rows(self.source):
            if isinstance(row, Quarantined):
                raise BrokenData(f"{row}")
            if tree is not None:
                keys.update(path for path, _, _ in facets(row.values))
            if tree is None or matches(tree, row.values):
                yield row
        for key in () if tree is None else compared_keys(tree):
            if key not in keys:
                raise InvalidInput(
                    f'No row of "{self.source}" has a value for the key "{key}", which the filter '
                    f"compares.{did_you_mean(key, keys)}"
                )

    def _row_examples(self, row: Row) -> list[Example]:
        """Return the examples of a row; errors name its place in the file."""
        try:
            self._check_keys(row.values)
            values = {"texts": ["-"], **row.values, "text": None}  # an entry needs some text
            entry = to_entry(Row(row.location, values, row.folder))
            metadata = {k: value for k, value in row.values.items() if k not in RESERVED_KEYS}
            example = Example(entry.id, entry.image, metadata=metadata)
            return list(self.parse_row(row.values, example))
        except NotFound as error:
            raise NotFound(f"{row.location}: {error} Fix the path or drop the row.") from None
        except (BrokenData, InvalidInput) as error:
            raise BrokenData(f"{row.location}: {error}") from None

    def _check_keys(self, values: Mapping[str, Any]) -> None:
        for key in self.required_keys:
            if not values.get(key):
                required = " and ".join(f'"{k}"' for k in self.required_keys)
                raise BrokenData(f'The row has no "{key}"; {self.name} needs {required}.')


def predictions_of(examples: Sequence[Example], answers: Sequence[Answer]) -> list[Prediction]:
    """Return the predictions that `answers` to `examples` make, in order."""
    pairs = zip(examples, answers, strict=True)
    return [Prediction.from_answer(example, answer) for example, answer in pairs]


def string_list(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return the strings under `key` that are not blank.

    Raises BrokenData if the value is not a list of strings, or has none."""
    value = values[key]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        preview = json.dumps(value, ensure_ascii=False)[:80]
        raise BrokenData(f'"{key}" is {preview}; it must be a list of strings.')
    texts = tuple(text for text in value if text.strip())
    if not texts:
        raise BrokenData(f'"{key}" is empty; it needs at least one string.')
    return texts


def _image_key(example: Example) -> str:
    if isinstance(example.image, bytes):
        return hashlib.sha256(example.image).hexdigest()
    return str(example.image)
