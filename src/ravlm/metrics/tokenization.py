"""Candidates and references of a text metric: checked, tokenized once, n-grams counted once."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal, TypeAlias, get_args

from ravlm.data.text import ChineseDictionary, is_chinese, split_words
from ravlm.errors import InvalidInput, did_you_mean
from ravlm.metrics.ptb_tokenizer import PtbTokenizer

TokenizerName = Literal["ptb", "zh", "none"]
"""How texts are split into tokens: English Penn Treebank, Chinese words, or white space."""
NgramCounts: TypeAlias = tuple[Counter[tuple[str, ...]], ...]
"""How often each n-gram occurs in a text: one counter for each n, from 1 on."""


class TokenizedCorpus:
    """Tokenized candidates and references: `candidates[i]` is compared with each `references[i]`.

    `candidate_lines` and `reference_lines` hold the same tokens joined by spaces.
    """

    def __init__(
        self,
        candidates: Sequence[str],
        references: Sequence[Sequence[str]],
        tokenize: TokenizerName = "ptb",
    ) -> None:
        """Tokenize n candidates, which may be empty, and n lists of references.

        Each list needs at least one reference, and none may be blank. Raises InvalidInput for
        anything else, and MissingExtra if "zh" lacks its dictionary.
        """
        candidate_texts = require_texts("candidates", candidates)
        reference_texts = require_references(references, len(candidate_texts))
        line = tokenizer(tokenize)
        if tokenize == "ptb":
            _warn_of_chinese(reference_texts)
        self.tokenize = tokenize
        self.candidate_lines = [line(text) for text in candidate_texts]
        self.reference_lines = [[line(text) for text in texts] for texts in reference_texts]
        self.candidates = [text.split() for text in self.candidate_lines]
        self.references = [[text.split() for text in texts] for texts in self.reference_lines]

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def candidate_ngrams(self) -> list[NgramCounts]:
        """The n-grams of each candidate, n from 1 to 4."""
        return [count_ngrams(tokens) for tokens in self.candidates]

    @cached_property
    def reference_ngrams(self) -> list[list[NgramCounts]]:
        """The n-grams of each reference of each candidate, n from 1 to 4."""
        return [[count_ngrams(tokens) for tokens in texts] for texts in self.references]

    def signature(self, metric: str, *details: str) -> str:
        """Return the signature of a score of these texts, with the tokenization."""
        return signature(metric, *details, f"tokenize:{self.tokenize}")


def _warn_of_chinese(references: Sequence[Sequence[str]]) -> None:
    """Warn if most items are Chinese: without blanks, a sentence would be one English token."""
    num_chinese = sum(is_chinese(texts[0]) for texts in references)
    if num_chinese > len(references) / 2:
        warnings.warn(
            f'{num_chinese} of {len(references)} items are Chinese, but tokenize is "ptb", which '
            'takes a run of Chinese characters for one word; pass tokenize="zh".',
            stacklevel=4,
        )


def signature(metric: str, *details: str) -> str:
    """Return the signature of a score: metric, parameters and version of ravlm."""
    return "|".join((metric, *details, f"ravlm:{version('ravlm')}"))


def count_ngrams(tokens: Sequence[str], max_n: int = 4) -> NgramCounts:
    """Count the n-grams of `tokens`, n from 1 to `max_n`."""
    return tuple(
        Counter(zip(*(tokens[i:] for i in range(n)), strict=False)) for n in range(1, max_n + 1)
    )


def tokenizer(tokenize: TokenizerName) -> Callable[[str], str]:
    """Return a function from a text to its tokens, joined by spaces.

    "ptb": English Penn Treebank tokens, lower-cased, without punctuation. "zh": Chinese words,
    likewise. "none": the text as it is.
    """
    names = get_args(TokenizerName)
    if tokenize not in names:
        allowed = ", ".join(f'"{name}"' for name in names)
        hint = did_you_mean(str(tokenize), names)
        raise InvalidInput(f'tokenize is "{tokenize}"; allowed: {allowed}.{hint}')
    if tokenize == "ptb":
        ptb_tokens = PtbTokenizer()
        return lambda text: " ".join(ptb_tokens(text))
    if tokenize == "zh":
        dictionary = ChineseDictionary()
        return lambda text: " ".join(split_words(text, dictionary))
    return str


def require_texts(name: str, texts: Iterable[str]) -> list[str]:
    """Return `texts` as a list of strings, or raise InvalidInput; `name` stands in the message."""
    if not _is_sequence(texts):
        raise InvalidInput(f"{name} is {_describe(texts)}; it must be a list of texts.")
    items = list(texts)
    if not items:
        raise InvalidInput(f"{name} is empty; pass at least one text.")
    for index, text in enumerate(items):
        if isinstance(text, str):
            continue
        is_list = isinstance(text, list | tuple)
        hint = " Are candidates and references swapped?" if is_list else ""
        raise InvalidInput(f"{name}[{index}] is {_describe(text)}; it must be a text.{hint}")
    return items


def require_references(references: Iterable[Iterable[str]], n: int) -> list[list[str]]:
    """Return `references` as `n` non-empty lists of texts that are not blank.

    Raises InvalidInput for anything else.
    """
    if not _is_sequence(references):
        raise InvalidInput(
            f"references is {_describe(references)}; it must be a list of lists of texts."
        )
    lists = []
    for index, texts in enumerate(references):
        name = f"references[{index}]"
        if isinstance(texts, str):
            raise InvalidInput(
                f"{name} is {_describe(texts)}; it must be a list of texts, even for one "
                "reference. Are candidates and references swapped?"
            )
        if isinstance(texts, Sequence) and not texts:
            raise InvalidInput(f"{name} is empty; add a reference, or leave the item out.")
        lists.append(require_texts(name, texts))
        for position, text in enumerate(lists[-1]):
            if not text.strip():
                raise InvalidInput(
                    f"{name}[{position}] is blank; remove it, or leave the item out."
                )
    if len(lists) != n:
        raise InvalidInput(
            f"candidates and references must have the same length ({n} and {len(lists)})."
        )
    return lists


def _is_sequence(value: Any) -> bool:
    """Return whether `value` has items in an order and is not a text."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | Set)


def _describe(value: Any) -> str:
    """Return the type of a value and how it begins, for messages."""
    kind = "the text" if isinstance(value, str) else type(value).__name__
    text = repr(value)
    return f"{kind} {text[:40]}{'…' if len(text) > 40 else ''}"
