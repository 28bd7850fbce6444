"""Whether what is cited is what the text should rest on. Knows ids only."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import signature
from ravlm.records import Score


def citation_precision(cited: Sequence[Collection[str]], right: Sequence[Collection[str]]) -> Score:
    """Of all that is cited, how much is right, 0 to 1; `items` are 0 where nothing is cited.

    `cited` and `right`: entry ids for each output; either may be empty (an output that abstains, a
    question that no entry answers). `counts` (items, 2): right ones, all."""
    return _share(cited, right, cited, "citation-precision")


def citation_recall(cited: Sequence[Collection[str]], right: Sequence[Collection[str]]) -> Score:
    """Of all that should be cited, how much is, 0 to 1; `items` are 0 where nothing should be."""
    return _share(cited, right, right, "citation-recall")


def ratio_from_counts(counts: np.ndarray) -> np.ndarray:
    """The share of summed counts: (..., 2) to (...); 0 of 0 is 0."""
    return counts[..., 0] / np.maximum(counts[..., 1], 1)


def _share(
    cited: Sequence[Collection[str]],
    right: Sequence[Collection[str]],
    whole: Sequence[Collection[str]],
    name: str,
) -> Score:
    if not len(cited) == len(right) > 0:
        raise InvalidInput(
            f"There are {len(cited)} lists of citations and {len(right)} of right ones: one each."
        )
    for place, ids in enumerate((*cited, *right)):
        if isinstance(ids, str):
            raise InvalidInput(
                f'Output {place % len(cited)} has the text "{ids}" where a list of ids is needed.'
            )
    common = [len(set(ours) & set(theirs)) for ours, theirs in zip(cited, right, strict=True)]
    counts = np.array([(n, len(set(ids))) for n, ids in zip(common, whole, strict=True)], np.int64)
    return Score(
        float(ratio_from_counts(counts.sum(axis=0))),
        tuple(ratio_from_counts(counts).tolist()),
        signature(name),
        counts,
    )
