"""What every task is: examples from a file, predictions of a model, scores. A new benchmark is a
class of fifty lines.

A task says how a model is asked and how its answers are scored; it knows no arm, no statistics and
no report."""

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
from ravlm.data.rows import KEYS, Quarantined, Row, to_entry
from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.records import Answer, Evidence, Example, Score
from ravlm.search.filter_parser import Where, read_filter
from ravlm.search.filters import matches

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM


@dataclass(frozen=True)
class Prediction:
    """What a model gave for one example, as plain values that a file can keep."""

    id: str
    """Of the example."""
    text: str = ""
    ids: tuple[str, ...] = ()
    """A ranking of entries."""
    evidence: tuple[str, ...] = ()
    """Ids of the entries that were read."""
    citations: tuple[str, ...] = ()
    confidence: float = 0.0
    abstained: bool = False
    picture: str = ""
    """An edited picture: PNG in base 64."""
    region: str = ""
    """The mask of what was edited: PNG in base 64."""

    @staticmethod
    def of(example: Example, answer: Answer) -> Prediction:
        """The prediction that an answer is."""
        evidence = tuple(hit.entry.id for hit in answer.evidence)
        return Prediction(
            example.id,
            answer.text,
            (),
            evidence,
            answer.citations,
            answer.confidence,
            answer.abstained,
        )


class Task(ABC):
    """Examples of one file. Subclasses say what a row must have, how a model is asked, and how
    answers score.

    `source`: a file of JSON lines (see `docs/comparing.md`). `where`: only rows that pass this
    filter. `limit`: so many of them at most, drawn at random with a fixed seed, in the file's
    order."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """The keys that every row must have."""
    chief: ClassVar[str]
    """The metric that is shown first, and that examples are chosen by."""
    k: ClassVar[int | None] = None
    """How many entries are looked for, where it is not the model's to say."""
    guarded: ClassVar[bool] = True
    """Whether an example's own entry is kept out of its evidence."""

    def __init__(
        self, source: str | os.PathLike[str], where: Where = None, limit: int | None = None
    ) -> None:
        self.source, self.where = Path(source), where
        if limit is not None and limit < 1:
            raise InvalidInput(f"limit is {limit}; at least one example is needed.")
        self.limit = limit

    def examples(self) -> list[Example]:
        """All examples, in the file's order.

        Raises NotFound for a file or a picture that is not there, BrokenData for a row that can't
        be read, InvalidInput for an id that comes twice and for a file without examples: a
        comparison needs all of its examples."""
        return list(self._read)

    @cached_property
    def _read(self) -> list[Example]:
        found: dict[str, Example] = {}
        for row in self._rows():
            for example in self._made(row):
                if example.id in found:
                    raise InvalidInput(
                        f'{row.place}: the id "{example.id}" came before; give each example its own.'
                    )
                found[example.id] = example
        if not found:
            rest = " that pass the filter" if self.where is not None else ""
            raise InvalidInput(f'"{self.source}" has no examples{rest}.')
        if self.limit is None or self.limit >= len(found):
            return list(found.values())
        chosen = np.sort(np.random.default_rng(0).permutation(len(found))[: self.limit])
        every = list(found.values())
        return [every[i] for i in chosen]

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash of the examples: texts, references and the pictures' paths."""
        digest = hashlib.sha256(self.name.encode())
        for e in self._read:
            image = (
                hashlib.sha256(e.image).hexdigest() if isinstance(e.image, bytes) else str(e.image)
            )
            digest.update(json.dumps([e.id, image, e.text, list(e.references)]).encode())
        return digest.hexdigest()

    @abstractmethod
    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        """What `model` gives for `examples`, in order. `evidence`: what it reads instead of what it
        finds, one each."""

    def score(self, predictions: Iterable[Prediction]) -> dict[str, Score]:
        """The scores of predictions for all examples, by metric; their items are in the examples'
        order.

        Raises InvalidInput where predictions are missing, come twice, or are for ids that are no
        examples."""
        return self._scores(self._read, self.matched(predictions))

    @abstractmethod
    def _scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        """The scores of one prediction for each example."""

    def evidence(
        self, model: RetrievalAugmentedVLM, examples: Sequence[Example], k: int
    ) -> list[Evidence]:
        """What `model` reads for `examples` with `k` entries."""
        texts, images = [e.text for e in examples], [e.image for e in examples]
        return model.evidence(texts, images, k)

    def gold_query(self, example: Example) -> str:
        """Words that find the entry that an ideal search would give, made with what is right."""
        return " ".join(example.references)

    def matched(self, predictions: Iterable[Prediction]) -> list[Prediction]:
        """`predictions` in the examples' order, one for each."""
        given: dict[str, Prediction] = {}
        for prediction in predictions:
            if prediction.id in given:
                raise InvalidInput(f'There are two predictions for "{prediction.id}"; keep one.')
            given[prediction.id] = prediction
        known = {example.id for example in self._read}
        missing, unknown = (
            [id for id in known if id not in given],
            [id for id in given if id not in known],
        )
        if missing:
            some = f'{len(missing)} of {len(known)} examples, "{min(missing)}" for one'
            raise InvalidInput(f"Predictions are missing for {some}; give one for each.")
        if unknown:
            raise InvalidInput(
                f'There is a prediction for "{unknown[0]}", which is no example of "{self.source}".'
            )
        return [given[example.id] for example in self._read]

    @abstractmethod
    def _examples(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        """The examples of a row: `example` has its id, picture and other keys. Raises BrokenData
        for what is wrong."""

    def _made(self, row: Row) -> list[Example]:
        values = row.values
        try:
            for key in self.needs:
                if not values.get(key):
                    raise BrokenData(
                        f'The row has no "{key}"; {self.name} needs {_listed(self.needs)}.'
                    )
            entry = to_entry(Row(row.place, {"texts": ["-"], **values, "text": None}, row.folder))
            rest = {key: value for key, value in values.items() if key not in KEYS}
            return list(self._examples(values, Example(entry.id, entry.image, metadata=rest)))
        except NotFound as error:
            raise NotFound(f"{row.place}: {error} Mend the path or drop the row.") from None
        except (BrokenData, InvalidInput) as error:
            raise BrokenData(f"{row.place}: {error}") from None

    def _rows(self) -> Iterator[Row]:
        if not self.source.is_file():
            raise NotFound(
                f'There is no file "{self.source}" to take examples from; check the path.'
            )
        tree = read_filter(self.where)
        for row in jsonl.rows(self.source):
            if isinstance(row, Quarantined):
                raise BrokenData(f"{row}")
            if tree is None or matches(tree, row.values):
                yield row


def answers(examples: Sequence[Example], given: Sequence[Answer]) -> list[Prediction]:
    """Predictions of what a model answered to `examples`, in order."""
    return [Prediction.of(example, answer) for example, answer in zip(examples, given, strict=True)]


def strings(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The texts under `key`, none blank. Raises BrokenData for anything but a list of texts."""
    given = values[key]
    if (
        isinstance(given, str)
        or not isinstance(given, list | tuple)
        or not all(isinstance(t, str) for t in given)
    ):
        raise BrokenData(
            f'"{key}" is {json.dumps(given, ensure_ascii=False)[:80]}; a list of texts is needed.'
        )
    found = tuple(text for text in given if text.strip())
    if not found:
        raise BrokenData(f'"{key}" is empty; at least one text is needed.')
    return found


def _listed(keys: Sequence[str]) -> str:
    return " and ".join(f'"{key}"' for key in keys)
