"""Tokenize texts for a text tower, in batches of similar length."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.data.text import check_unicode
from ravlm.encoders.chunking import split_passages

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_CHINESE_SAMPLE = "今天天气很好，孩子们在公园里玩，一只猫睡在桌子上"


class TextTokenizer:
    """A tokenizer with the requirements of its text tower.

    `max_length`: tokens that the tower reads, including special tokens. `pad_to_max`: pad every
    text to that length.
    """

    def __init__(self, tokenizer: Any, max_length: int, pad_to_max: bool) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad_to_max = pad_to_max
        # A tokenizer stores its truncation setting: concurrent calls would overwrite each other's.
        self._lock = Lock()
        if tokenizer.pad_token is None:  # masked out, so any token works
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> TextTokenizer:
        """Copy with a new lock, because locks cannot be copied."""
        return TextTokenizer(copy.deepcopy(self.tokenizer, memo), self.max_length, self.pad_to_max)

    def batches(
        self, texts: Sequence[str], size: int, device: torch.device
    ) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield row numbers of `texts` (n,) and the tower's inputs for them: `input_ids` and
        usually `attention_mask`, (n, tokens). Raises InvalidInput for a text that is not valid
        Unicode."""
        for text in texts:
            check_unicode(text)
        with self._lock:
            encodings = self.tokenizer(
                list(texts), truncation=True, max_length=self.max_length, verbose=False
            )
        order = np.argsort([len(ids) for ids in encodings["input_ids"]], kind="stable")
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch = self.tokenizer.pad(
                {key: [value[row] for row in rows] for key, value in encodings.items()},
                padding="max_length" if self.pad_to_max else "longest",
                max_length=self.max_length,
                return_tensors="pt",
                verbose=False,
            )
            yield rows, {key: value.to(device) for key, value in batch.items()}

    def passages(self, text: str) -> list[str]:
        """Split `text` into passages that the tower reads without truncation."""
        return split_passages(text, self.fits)

    def num_truncated(self, texts: Sequence[str]) -> int:
        """Return how many of the texts are longer than the tower reads."""
        with self._lock:
            rows = self.tokenizer(list(texts), verbose=False)["input_ids"]
        return sum(len(row) > self.max_length for row in rows)

    def fits(self, text: str) -> bool:
        """Return whether the tower reads `text` without truncation."""
        with self._lock:
            return len(self.tokenizer(text, verbose=False)["input_ids"]) <= self.max_length

    @property
    def languages(self) -> tuple[str, ...]:
        """English, and Chinese if the tokenizer needs no unknown token and at most one token per
        Chinese character.

        This says what the tokenizer can represent. Only the authors of a checkpoint know what its
        tower was trained on.
        """
        ids = self.tokenizer(_CHINESE_SAMPLE, add_special_tokens=False, verbose=False)["input_ids"]
        has_unknown = self.tokenizer.unk_token_id in ids
        return ("en",) if has_unknown or len(ids) > len(_CHINESE_SAMPLE) else ("en", "zh")
