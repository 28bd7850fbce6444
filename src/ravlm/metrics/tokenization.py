"""Candidates and references as every text metric takes them: checked, tokenised once, n-grams
counted once.

Knows no metric, and no task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal, get_args

from ravlm.data.text import ChineseDictionary, split_words
from ravlm.errors import InvalidInput, did_you_mean
from ravlm.metrics.ptb_tokenizer import PtbTokenizer

TokenizerName = Literal["ptb", "zh", "none"]
NgramCounts = tuple[Counter[tuple[str, ...]], ...]
"""How often each n-gram occurs in a text: a counter for each n, from 1 on."""


class TokenizedCorpus:
    """`candidates[i]` is compared with each of `references[i]`; all are tokenised by `tokenize`."""

    def __init__(
        self,
        candidates: Sequence[str],
        references: Sequence[Sequence[str]],
        tokenize: TokenizerName = "ptb",
    ) -> None:
        """`candidates`: n texts, which may be empty. `references`: n lists of at least one text
        that is not blank.

        Raises InvalidInput for anything else, and MissingExtra where "zh" lacks its dictionary.
        """
        found = require_texts("candidates", candidates)
        wanted = require_references(references, len(found))
        line = tokenizer(tokenize)
        self.tokenize = tokenize
        self.candidate_lines = [line(text) for text in found]
        self.reference_lines = [[line(text) for text in texts] for texts in wanted]
        self.candidates = [text.split() for text in self.candidate_lines]
        self.references = [[text.split() for text in texts] for texts in self.reference_lines]

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def candidate_grams(self) -> list[NgramCounts]:
        """The n-grams of each candidate, n from 1 to 4."""
        return [count_ngrams(tokens) for tokens in self.candidates]

    @cached_property
    def reference_grams(self) -> list[list[NgramCounts]]:
        """The n-grams of each reference of each candidate, n from 1 to 4."""
        return [[count_ngrams(tokens) for tokens in texts] for texts in self.references]

    def signature(self, metric: str, *details: str) -> str:
        """What names a score of these texts."""
        return signature(metric, *details, f"tokenize:{self.tokenize}")


def signature(metric: str, *details: str) -> str:
    """What names a score: the metric, how it was computed, and this package's version."""
    return "|".join((metric, *details, f"ravlm:{version('ravlm')}"))


def count_ngrams(tokens: Sequence[str], most: int = 4) -> NgramCounts:
    """The n-grams of `tokens`, n from 1 to `most`."""
    return tuple(
        Counter(zip(*(tokens[i:] for i in range(n)), strict=False)) for n in range(1, most + 1)
    )


def tokenizer(tokenize: TokenizerName) -> Callable[[str], str]:
    """From a text to its tokens with a space between: "ptb" (English, lower-cased, without
    punctuation), "zh" (Chinese words, the same), "none" (the text as it is)."""
    if tokenize not in get_args(TokenizerName):
        allowed = ", ".join(f'"{name}"' for name in get_args(TokenizerName))
        hint = did_you_mean(str(tokenize), get_args(TokenizerName))
        raise InvalidInput(f'tokenize is "{tokenize}"; allowed: {allowed}.{hint}')
    if tokenize == "ptb":
        penn = PtbTokenizer()
        return lambda text: " ".join(penn(text))
    if tokenize == "zh":
        dictionary = ChineseDictionary()
        return lambda text: " ".join(split_words(text, dictionary))
    return str


def require_texts(name: str, texts: Iterable[str]) -> list[str]:
    """`texts` as a list of strings; `name` names them in errors. Raises InvalidInput for what is no
    list of texts."""
    if not _is_list(texts):
        raise InvalidInput(f"{name} is {_shown(texts)}; a list of texts is needed, one an item.")
    found = list(texts)
    if not found:
        raise InvalidInput(f"{name} is empty; at least one text is needed.")
    for place, text in enumerate(found):
        if not isinstance(text, str):
            swapped = (
                " Are candidates and references swapped?" if isinstance(text, list | tuple) else ""
            )
            raise InvalidInput(f"{name}[{place}] is {_shown(text)}; a text is needed.{swapped}")
    return found


def require_references(references: Iterable[Iterable[str]], n: int) -> list[list[str]]:
    """`references` as a list of `n` lists of texts. Raises InvalidInput for anything else, blank
    texts included."""
    if not _is_list(references):
        raise InvalidInput(
            f"references is {_shown(references)}; a list of lists of texts is needed."
        )
    found = []
    for place, texts in enumerate(references):
        if isinstance(texts, str):
            raise InvalidInput(
                f"references[{place}] is {_shown(texts)}; a list of texts is needed, even for one reference. "
                "Are candidates and references swapped?"
            )
        if isinstance(texts, Sequence) and not texts:
            raise InvalidInput(
                f"references[{place}] is empty; give that item a reference, or leave the item out."
            )
        found.append(require_texts(f"references[{place}]", texts))
        for which, text in enumerate(found[-1]):
            if not text.strip():
                raise InvalidInput(
                    f"references[{place}][{which}] is blank; drop it, or drop the item."
                )
    if len(found) != n:
        raise InvalidInput(
            f"There are {n} candidates and {len(found)} lists of references; each needs the other."
        )
    return found


def _is_list(value: Any) -> bool:
    """Whether it has items in an order, and is no text."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | Set)


def _shown(value: Any) -> str:
    """A value in an error: its type, and how it begins."""
    kind = "the text" if isinstance(value, str) else type(value).__name__
    begin = repr(value)
    return f"{kind} {begin[:40]}{'…' if len(begin) > 40 else ''}"
