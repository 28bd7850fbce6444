"""Check and broadcast what callers pass to the model: one value or a batch, text and images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

from ravlm.data.text import check_unicode
from ravlm.errors import InvalidInput
from ravlm.records import Evidence, ImageSource
from ravlm.search.filter_parser import Where

TextBatch: TypeAlias = "list[str] | tuple[str, ...]"
ImageBatch: TypeAlias = "list[Any] | tuple[Any, ...]"
Texts: TypeAlias = "str | TextBatch | None"
Images: TypeAlias = "ImageSource | ImageBatch | None"
EvidenceBatch: TypeAlias = "Sequence[Evidence]"


class SearchScope(TypedDict, total=False):
    """How many entries a verb reads, which, and whether the answer must rest on them."""

    k: int | None
    where: Where
    base_only: bool | None


class Options(SearchScope, total=False):
    """Options of a verb that also accepts ready-made evidence, one for each request."""

    evidence: EvidenceBatch | None


class EditOptions(TypedDict, total=False):
    """Options of `edit`."""

    k: int | None
    seed: int
    evidence: Evidence | None


def checked_k(k: int) -> int:
    """Return `k`. Raises InvalidInput unless it is an integer from 0 (closed book) on."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise InvalidInput(f"k is {k!r}; give a number of entries, or 0 for the closed book.")
    return k


def checked_rate(rate: float | None, name: str) -> float | None:
    """Return `rate`. Raises InvalidInput unless it is None or from 0 to 1."""
    if rate is not None and not 0 <= rate <= 1:
        raise InvalidInput(f"{name} is {rate}; give a rate from 0 to 1.")
    return rate


def check_text(text: Any, name: str, advice: str = "write what you want to know") -> None:
    """Raise InvalidInput unless `text` is a string with words. `name` stands in the message."""
    if not isinstance(text, str):
        raise InvalidInput(f"The {name} is of type {type(text).__name__}; give a string.")
    if not text.strip():
        raise InvalidInput(f"The {name} is empty; {advice}.")
    check_unicode(text)


def validated_evidence(evidence: EvidenceBatch | None, num_requests: int) -> list[Evidence] | None:
    """Return the caller's evidence as a list, or None if the base is to be searched.

    Raises InvalidInput unless there is one for each request.
    """
    if evidence is None:
        return None
    if len(evidence) != num_requests:
        raise InvalidInput(
            f"There is evidence for {len(evidence)} of {num_requests} requests; give one for each."
        )
    return list(evidence)


def is_batch(value: Any) -> bool:
    """Return whether `value` is a sequence of inputs and not a single text, path or image."""
    return isinstance(value, Sequence) and not isinstance(
        value, str | bytes | bytearray | os.PathLike
    )


def broadcast(text: Any, image: Any, text_is_batch: bool) -> list[tuple[Any, Any]]:
    """Pair texts with images; a single one of either goes with all of the other.

    Raises InvalidInput for batches of different lengths.

    >>> broadcast("What is this?", ["a.jpg", "b.jpg"], text_is_batch=False)
    [('What is this?', 'a.jpg'), ('What is this?', 'b.jpg')]
    """
    if not is_batch(image):
        return [(item, image) for item in (text if text_is_batch else [text])]
    if not text_is_batch:
        return [(text, item) for item in image]
    if len(text) != len(image):
        raise InvalidInput(
            f"There are {len(text)} texts and {len(image)} images; "
            "give as many of both, or one for all."
        )
    return list(zip(text, image, strict=True))
