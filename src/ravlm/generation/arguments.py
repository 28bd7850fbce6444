"""What callers of the model give, checked and spread out into pairs of words and picture. Knows no
model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

from ravlm.errors import InvalidInput
from ravlm.records import Evidence, ImageSource

TextList: TypeAlias = "list[str] | tuple[str, ...]"
PictureList: TypeAlias = "list[Any] | tuple[Any, ...]"
Words: TypeAlias = "str | TextList"
Pictures: TypeAlias = "ImageSource | PictureList"
Found: TypeAlias = "Sequence[Evidence] | None"


def checked_k(k: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise InvalidInput(f"k is {k!r}; a number of entries from 0 (closed book) on is needed.")
    return k


def given(evidence: Found, n: int) -> list[Evidence]:
    """Evidence that a caller brings, one for each request; empty where there is none."""
    if evidence is not None and len(evidence) != n:
        raise InvalidInput(
            f"There is evidence for {len(evidence)} of {n} requests; give one for each."
        )
    return list(evidence or ())


def checked_words(text: Any, what: str, advice: str = "write what you want to know") -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"The {what} is of type {type(text).__name__}; a string is needed.")
    if not text.strip():
        raise InvalidInput(f"The {what} is empty; {advice}.")


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(
        value, str | bytes | bytearray | os.PathLike
    )


def spread(words: Words, image: Pictures | None) -> tuple[list[str], list[ImageSource | None]]:
    """Words and pictures in pairs; one of either goes with all of the other. Raises InvalidInput
    for unequal lists."""
    texts: list[Any] = list(words) if is_list(words) else [words]
    images: list[Any] = list(image) if is_list(image) else [image]  # type: ignore[arg-type]
    if is_list(words) and is_list(image) and len(texts) != len(images):
        raise InvalidInput(
            f"There are {len(texts)} texts and {len(images)} pictures; give as many, or one for all."
        )
    if len(texts) == 1:
        texts *= len(images)
    elif len(images) == 1:
        images *= len(texts)
    return texts, images
