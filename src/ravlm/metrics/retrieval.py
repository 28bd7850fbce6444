"""How well a search ranks: plain functions of vectors or ranks. Know no encoder and no index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import signature
from ravlm.records import Score

Ranked = Sequence[Sequence[str]]
"""The ids that each query found, best first."""
Relevant = Sequence[Collection[str]]
"""The ids that each query should find; a mapping gives each its gain."""


@dataclass(frozen=True)
class CrossModalRecall:
    """Recall at k in percent, both ways: a text finds its image; an image finds any of its
    texts."""

    text_to_image: dict[int, float]
    image_to_text: dict[int, float]

    def __str__(self) -> str:
        ways = (("text to image", self.text_to_image), ("image to text", self.image_to_text))
        return "; ".join(
            f"{name} R@{'/'.join(map(str, values))} {' / '.join(f'{v:.1f}' for v in values.values())}"
            for name, values in ways
        )


def cross_modal_recall(
    images: np.ndarray, texts: np.ndarray, owner: np.ndarray, ks: tuple[int, ...] = (1, 5, 10)
) -> CrossModalRecall:
    """Recall of exact search among unit vectors `images` (n, dim) and `texts` (m, dim).

    `owner` (m,) is the image that each text describes; every image needs a text. Ties count against
    the right one."""
    scores = texts @ images.T
    right = scores[np.arange(len(texts)), owner]
    text_ranks = (scores >= right[:, None]).sum(axis=1) - 1
    image_ranks = np.full(len(images), len(texts))
    by_image = scores.T
    for image in range(len(images)):
        best = by_image[image, owner == image].max()
        image_ranks[image] = (by_image[image, owner != image] >= best).sum()
    return CrossModalRecall(
        {k: float(100 * np.mean(text_ranks < k)) for k in ks},
        {k: float(100 * np.mean(image_ranks < k)) for k in ks},
    )


def recall_at(ranked: Ranked, relevant: Relevant, k: int) -> Score:
    """The share of what is relevant that is among the first `k`; the mean over the queries."""
    return _mean(
        ranked, relevant, lambda hits, gains: sum(hits[:k]) / len(gains), f"recall@{_positive(k)}"
    )


def precision_at(ranked: Ranked, relevant: Relevant, k: int) -> Score:
    """The share of the first `k` places (not of what was found) that is relevant; the mean over the
    queries."""
    return _mean(
        ranked, relevant, lambda hits, gains: sum(hits[:k]) / k, f"precision@{_positive(k)}"
    )


def mean_reciprocal_rank(ranked: Ranked, relevant: Relevant) -> Score:
    """One over the rank of the first relevant hit, 0 without one; the mean over the queries."""
    return _mean(
        ranked,
        relevant,
        lambda hits, gains: 1 / (hits.index(True) + 1) if True in hits else 0.0,
        "mrr",
    )


def mean_average_precision(ranked: Ranked, relevant: Relevant) -> Score:
    """The precision at each relevant hit, over all that is relevant; the mean over the queries."""

    def average(hits: list[bool], gains: Mapping[str, float]) -> float:
        found = np.flatnonzero(hits)
        return float(np.sum(np.arange(1, len(found) + 1) / (found + 1)) / len(gains))

    return _mean(ranked, relevant, average, "map")


def ndcg_at(ranked: Ranked, relevant: Relevant, k: int) -> Score:
    """Discounted gain of the first `k` over the best that could be (Järvelin and Kekäläinen 2002);
    the mean.

    Gains count as they are, as in trec_eval.
    """
    discount = 1 / np.log2(np.arange(_positive(k)) + 2)
    _check(ranked, relevant)
    items = []
    for ids, right in zip(ranked, relevant, strict=True):
        gains = _gains(right)
        found = np.array([gains.get(id, 0.0) for id in ids[:k]])
        best = np.sort(np.array(list(gains.values())))[::-1][:k]
        items.append(float(found @ discount[: len(found)] / (best @ discount[: len(best)])))
    return Score(float(np.mean(items)), tuple(items), signature(f"ndcg@{k}"))


def _mean(
    ranked: Ranked,
    relevant: Relevant,
    item: Callable[[list[bool], Mapping[str, float]], float],
    name: str,
) -> Score:
    _check(ranked, relevant)
    wanted = [_gains(right) for right in relevant]
    items = [
        item([id in right for id in ids], right) for ids, right in zip(ranked, wanted, strict=True)
    ]
    return Score(float(np.mean(items)), tuple(float(i) for i in items), signature(name))


def _gains(right: Collection[str]) -> Mapping[str, float]:
    """What is relevant with its gain; what a mapping gives no gain is not relevant."""
    if isinstance(right, Mapping):
        return {id: float(gain) for id, gain in right.items() if gain > 0}
    return dict.fromkeys(right, 1.0)


def _check(ranked: Ranked, relevant: Relevant) -> None:
    if not len(ranked) == len(relevant) > 0:
        raise InvalidInput(
            f"There are {len(ranked)} rankings and {len(relevant)} sets of relevant ids."
        )
    for place, (ids, right) in enumerate(zip(ranked, relevant, strict=True)):
        if isinstance(ids, str) or isinstance(right, str):
            raise InvalidInput(f"Query {place} has a text where a list of ids is needed.")
        if not _gains(right):
            raise InvalidInput(f"Query {place} has nothing relevant; leave it out.")
        if len(set(ids)) < len(ids):
            twice = next(id for id in ids if list(ids).count(id) > 1)
            raise InvalidInput(f'Query {place} ranks "{twice}" twice; each id needs one place.')


def _positive(k: int) -> int:
    if k < 1:
        raise InvalidInput(f"k is {k}; it must be 1 or more.")
    return k
