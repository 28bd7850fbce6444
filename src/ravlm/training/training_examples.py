"""What a generator is fine-tuned on: questions, captions and conversations with right answers."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ravlm.data.formats import jsonl
from ravlm.data.images import is_address
from ravlm.data.rows import Quarantined, Row, entry_id, to_entry
from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.generation.base import Request, VerbName
from ravlm.generation.verbs import build_requests
from ravlm.records import Example, ImageSource, Pair

_KEYS = ("id", "image", "question", "answer", "answers", "messages", "evidence")
"""Keys of a row that are never metadata."""
_FORMS = (
    '"question" and "answer" (or "answers"), "image" and "text" (or "texts"), or "messages" that '
    "end with the assistant's reply"
)


@dataclass(frozen=True)
class TrainingExample:
    """A question, an image to describe, or a conversation, with its right answers.

    >>> TrainingExample("How tall is it?", ("42 m",), image="tower.jpg").task
    'ask'
    """

    question: str = ""
    """Empty for a caption and a conversation."""
    answers: tuple[str, ...] = ()
    """Right answers, captions or replies; each is one. `[n]` in an answer cites the n-th of
    `evidence`; an answer without marks cites all of it at its end."""
    image: ImageSource | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    """A conversation in the OpenAI form, up to the user's message that the answers reply to."""
    evidence: tuple[str, ...] = ()
    """Ids of the entries that have the answer. Without them, an entry is right if it contains one
    of the answers."""
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The other keys of a row; `group` marks what belongs together, for the leakage guard."""

    @property
    def task(self) -> VerbName:
        """The verb that it is an example of."""
        if self.messages:
            return "chat"
        return "ask" if self.question else "caption"

    @property
    def guarded(self) -> Pair | Example:
        """The record by which the leakage guard knows what gives the answer away."""
        if self.task == "caption":
            return Pair(self.image, self.answers, self.id, self.metadata)  # type: ignore[arg-type]
        text = self.question or "conversation"
        return Example(self.id, self.image, text, self.answers, metadata=self.metadata)

    def request(self) -> Request:
        """Return the request without evidence. Raises InvalidInput for one that cannot be built."""
        text: Any = list(self.messages) if self.messages else self.question or None
        return build_requests(self.task, text, self.image).requests[0]


def read_examples(
    examples: Any, images: str | os.PathLike[str] | None = None
) -> list[TrainingExample]:
    """Return the examples of a JSON-lines file, or of records, pairs and mappings with its keys.

    The keys are `question`, `answer` or `answers`, `image`, `text` or `texts`, `messages`,
    `evidence` (ids of right entries) and `id`; all others are metadata. `images` is the folder of
    the images that a file names, by default its own.

    Raises NotFound or BrokenData for what cannot be read, with its place.
    """
    if isinstance(examples, str | os.PathLike):
        path = Path(examples)
        if not path.is_file():
            raise NotFound(f'The file of examples "{path}" does not exist; check the path.')
        folder = None if images is None else Path(images)
        return [_located(row.location, row.values, folder or row.folder) for row in _rows(path)]
    return [
        _located(f"example {number}", example, Path()) for number, example in enumerate(examples, 1)
    ]


def _rows(path: Path) -> Iterator[Row]:
    for row in jsonl.read_rows(path):
        if isinstance(row, Quarantined):
            raise BrokenData(f"{row}")
        yield row


def _located(location: str, example: Any, folder: Path) -> TrainingExample:
    """Return the example; errors name its place."""
    try:
        example = _to_example(example, folder)
        _check(example)
    except NotFound as error:
        raise NotFound(f"{location}: {error} Fix the path or drop the row.") from None
    except (BrokenData, InvalidInput) as error:
        raise BrokenData(f"{location}: {error}") from None
    return example


def _to_example(example: Any, folder: Path) -> TrainingExample:
    if isinstance(example, TrainingExample):
        return example
    if isinstance(example, Pair):
        return TrainingExample(
            answers=example.texts, image=example.image, id=example.id, metadata=example.metadata
        )
    if not isinstance(example, Mapping):
        raise BrokenData(f"It is of the type {type(example).__name__}; give {_FORMS}.")
    return _from_row(example, folder)


def _from_row(values: Mapping[str, Any], folder: Path) -> TrainingExample:
    answers = [*_strings(values, "answer"), *_strings(values, "answers")]
    question = _strings(values, "question")
    messages = values.get("messages") or ()
    if not isinstance(messages, list | tuple):
        raise BrokenData(f'"messages" is {messages!r:.80}; it must be a list of messages.')
    messages = [_with_paths(message, folder) for message in messages]
    keys = {*_KEYS}
    if not question and not messages:
        answers += [*_strings(values, "text"), *_strings(values, "texts")]
        keys |= {"text", "texts"}
    if messages and isinstance(messages[-1], Mapping) and messages[-1].get("role") == "assistant":
        answers = [*_strings(messages[-1], "content"), *answers]
        messages = messages[:-1]
    image = values.get("image")
    if image is None or isinstance(image, str):  # read as those of entries are
        image = to_entry(Row("", {"image": image, "text": "-"}, folder)).image
    return TrainingExample(
        question[0] if question else "",
        tuple(answers),
        image,
        tuple(messages),
        tuple(_strings(values, "evidence")),
        entry_id(values.get("id")),
        {key: value for key, value in values.items() if key not in keys},
    )


def _with_paths(message: Any, folder: Path) -> Any:
    """Return a message whose images are looked for in `folder`, unless they have an address."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list | tuple):
        return message
    return {**message, "content": [_with_path(part, folder) for part in content]}


def _with_path(part: Any, folder: Path) -> Any:
    url = part.get("image_url") if isinstance(part, Mapping) else None
    url = url.get("url") if isinstance(url, Mapping) else url
    if not isinstance(url, str) or is_address(url) or url.lstrip()[:5].lower() == "data:":
        return part
    return {**part, "image_url": {"url": os.path.join(os.path.abspath(folder), url)}}


def _strings(values: Mapping[str, Any], key: str) -> list[str]:
    """Return a string, or a list of strings, as the list of those that are not blank."""
    value = values.get(key)
    items = [] if value is None else value if isinstance(value, list | tuple) else [value]
    if key == "evidence":
        items = [str(item) if isinstance(item, int) else item for item in items]
    if not all(isinstance(item, str) for item in items):
        raise BrokenData(f'"{key}" is {value!r:.80}; it must be a string or a list of strings.')
    return [item for item in items if item.strip()]


def _check(example: TrainingExample) -> None:
    if not example.answers:
        raise BrokenData(f"It has no answer; give {_FORMS}.")
    if not example.question and not example.messages and example.image is None:
        raise BrokenData(f"It has no question, no image and no messages; give {_FORMS}.")
    example.request()


def split_examples(
    examples: Sequence[TrainingExample], held_out: float, seed: int = 0
) -> tuple[list[TrainingExample], list[TrainingExample]]:
    """Return a training and a held-out part; what has an image, an entry or a group in common stays
    together.

    Raises InvalidInput for a fraction outside of 0 to 1.
    """
    if not 0 <= held_out < 1:
        raise InvalidInput(f"held_out is {held_out}; give a fraction from 0 to 1, without 1.")
    groups: dict[Any, list[TrainingExample]] = {}
    for number, example in enumerate(examples):
        groups.setdefault(_group(example, number), []).append(example)
    order = list(groups.values())
    random.Random(seed).shuffle(order)  # noqa: S311 - not for secrets
    num_held_out = round(held_out * len(examples))
    train: list[TrainingExample] = []
    test: list[TrainingExample] = []
    for group in order:
        target = test if len(test) + len(group) <= num_held_out else train
        target += group
    return train, test


def _group(example: TrainingExample, number: int) -> Any:
    if "group" in example.metadata:
        return "group", str(example.metadata["group"])
    if isinstance(example.image, str | os.PathLike):
        return "image", os.fspath(example.image)
    if example.evidence:
        return "entry", example.evidence[0]
    return number
