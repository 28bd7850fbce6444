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
    text to that length. `last_token`: end every text with the token of this id, and pad behind it.
    """

    def __init__(
        self, tokenizer: Any, max_length: int, pad_to_max: bool, last_token: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad_to_max = pad_to_max
        self.last_token = last_token
        if last_token is not None:
            tokenizer.padding_side = "right"  # a causal tower numbers the tokens from the left
        # A tokenizer stores its truncation setting: concurrent calls would overwrite each other's.
        self.lock = Lock()
        if tokenizer.pad_token is None:  # masked out, so any token works
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> TextTokenizer:
        """Copy with a new lock, because locks cannot be copied."""
        tokenizer = copy.deepcopy(self.tokenizer, memo)
        return TextTokenizer(tokenizer, self.max_length, self.pad_to_max, self.last_token)

    def batches(
        self, texts: Sequence[str], size: int, device: torch.device
    ) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield row numbers of `texts` (n,) and the tower's inputs for them: `input_ids` and
        usually `attention_mask`, (n, tokens). Raises InvalidInput for a text that is not valid
        Unicode."""
        for text in texts:
            check_unicode(text)
        encodings = self._encode(texts, truncate=True)
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
        rows = self._encode(texts, truncate=False)["input_ids"]
        return sum(len(row) > self.max_length for row in rows)

    def fits(self, text: str) -> bool:
        """Return whether the tower reads `text` without truncation."""
        return self.num_truncated([text]) == 0

    def _encode(self, texts: Sequence[str], truncate: bool) -> dict[str, list[list[int]]]:
        """Return the tokenizer's lists for each text, which end with the last token. Even an empty
        text has a token, unless texts are padded to full length."""
        limit = {"truncation": True, "max_length": self.max_length} if truncate else {}
        with self.lock:
            encodings = self.tokenizer(list(texts), verbose=False, **limit)
        if self.pad_to_max:
            return encodings
        last_token = self.tokenizer.pad_token_id if self.last_token is None else self.last_token
        end_values = {"input_ids": last_token, "attention_mask": 1}
        for row, ids in enumerate(encodings["input_ids"]):
            if ids and self.last_token in (None, ids[-1]):
                continue
            for key, rows in encodings.items():
                if truncate:
                    del rows[row][self.max_length - 1 :]
                rows[row].append(end_values.get(key, 0))
        return encodings

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
