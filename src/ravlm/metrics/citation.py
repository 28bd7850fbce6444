"""Citation precision and recall: are the cited entries the ones that support the text?"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import signature
from ravlm.records import Score


def citation_precision(
    citations: Sequence[Collection[str]], relevant: Sequence[Collection[str]]
) -> Score:
    """Compute the fraction of all citations that are relevant, 0 to 1.

    `citations` and `relevant`: entry ids for each output. Either may be empty: an output that
    abstains, a question that no entry answers. `items` are 0 for outputs without citations.
    `counts` (items, 2): relevant citations, citations; `ratio_from_counts` computes the value from
    their sum. Tested against arithmetic on paper. No texts are tokenized.
    """
    return _ratio(citations, relevant, citations, "citation-precision")


def citation_recall(
    citations: Sequence[Collection[str]], relevant: Sequence[Collection[str]]
) -> Score:
    """Compute the fraction of all relevant entries that are cited, 0 to 1.

    As `citation_precision`; `items` are 0 for outputs without relevant entries.
    """
    return _ratio(citations, relevant, relevant, "citation-recall")


def ratio_from_counts(counts: np.ndarray) -> np.ndarray:
    """Compute a ratio from summed counts: (..., 2) -> (...); 0 of 0 is 0."""
    return counts[..., 0] / np.maximum(counts[..., 1], 1)


def _ratio(
    citations: Sequence[Collection[str]],
    relevant: Sequence[Collection[str]],
    denominators: Sequence[Collection[str]],
    name: str,
) -> Score:
    if not len(citations) == len(relevant) > 0:
        raise InvalidInput(
            "citations and relevant must have the same length, at least 1 "
            f"({len(citations)} and {len(relevant)})."
        )
    for index, ids in enumerate((*citations, *relevant)):
        if isinstance(ids, str):
            output = index % len(citations)
            raise InvalidInput(f'Output {output} has the text "{ids}"; pass a list of ids.')
    counts = np.array(
        [
            (len(set(cited_ids) & set(relevant_ids)), len(set(ids)))
            for cited_ids, relevant_ids, ids in zip(citations, relevant, denominators, strict=True)
        ],
        np.int64,
    )  # (items, 2)
    return Score(
        value=float(ratio_from_counts(counts.sum(axis=0))),
        items=tuple(ratio_from_counts(counts).tolist()),
        signature=signature(name),
        counts=counts,
    )
