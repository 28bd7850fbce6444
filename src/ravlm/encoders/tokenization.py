"""Texts as a text tower takes them: a tokenizer's pieces, in batches of like length. Knows no
tower."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.encoders.chunking import passages

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_CHINESE = "今天天气很好，孩子们在公园里玩，一只猫睡在桌子上"


class Tokens:
    """`limit`: pieces that the tower reads, special ones included; `full`: every text is padded to
    that length."""

    def __init__(self, tokenizer: Any, limit: int, full: bool) -> None:
        self.tokenizer, self.limit, self.full = tokenizer, limit, full
        self._alone = (
            Lock()
        )  # a tokenizer's truncation is a state of its own, which calls from two threads would mix
        if tokenizer.pad_token is None:  # masked out, so any piece will do
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokens:
        """A copy with a lock of its own."""
        return Tokens(copy.deepcopy(self.tokenizer, memo), self.limit, self.full)

    def batches(
        self, texts: Sequence[str], size: int, device: torch.device
    ) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Rows of `texts`, and the tower's inputs for them: `input_ids`, mostly `attention_mask`,
        (rows, pieces)."""
        with self._alone:
            pieces = self.tokenizer(
                list(texts), truncation=True, max_length=self.limit, verbose=False
            )
        order = np.argsort([len(ids) for ids in pieces["input_ids"]], kind="stable")
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch = self.tokenizer.pad(
                {key: [value[row] for row in rows] for key, value in pieces.items()},
                padding="max_length" if self.full else "longest",
                max_length=self.limit,
                return_tensors="pt",
                verbose=False,
            )
            yield rows, {key: value.to(device) for key, value in batch.items()}

    def passages(self, text: str) -> list[str]:
        """`text` in pieces that the tower reads whole."""
        return passages(text, self.fits)

    def fits(self, text: str) -> bool:
        """Whether the tower reads `text` whole."""
        with self._alone:
            return len(self.tokenizer(text, verbose=False)["input_ids"]) <= self.limit

    @property
    def languages(self) -> tuple[str, ...]:
        """English, and Chinese where the tokenizer knows its characters: no unknown piece, at most
        one a character.

        What a tokenizer can spell, not what the tower was trained on: only the checkpoint's authors
        know that."""
        ids = self.tokenizer(_CHINESE, add_special_tokens=False, verbose=False)["input_ids"]
        unknown = self.tokenizer.unk_token_id in ids
        return ("en",) if unknown or len(ids) > len(_CHINESE) else ("en", "zh")
