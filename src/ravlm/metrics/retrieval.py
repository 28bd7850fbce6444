"""Retrieval metrics: plain functions of vectors or ranked ids. Higher is better; no text is
tokenized."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import signature
from ravlm.records import Score

Rankings: TypeAlias = Sequence[Sequence[str]]
"""The ids that each query retrieved, best first."""
RelevantIds: TypeAlias = Sequence[Collection[str]]
"""The ids that each query should retrieve; a mapping gives each id its gain."""


@dataclass(frozen=True)
class CrossModalRecall:
    """Recall at k in percent: a text retrieves its image, an image retrieves any of its texts."""

    text_to_image: dict[int, float]
    image_to_text: dict[int, float]

    def __str__(self) -> str:
        directions = {"text to image": self.text_to_image, "image to text": self.image_to_text}
        parts = []
        for name, recall in directions.items():
            ks = "/".join(map(str, recall))
            values = " / ".join(f"{value:.1f}" for value in recall.values())
            parts.append(f"{name} R@{ks} {values}")
        return "; ".join(parts)


def cross_modal_recall(
    images: np.ndarray, texts: np.ndarray, owner: np.ndarray, ks: tuple[int, ...] = (1, 5, 10)
) -> CrossModalRecall:
    """Compute the recall of exact search between unit vectors, 0 to 100.

    `images` (n, dim), `texts` (m, dim), `owner` (m,): the index of the image that each text
    describes; or (m, n) bool, if a text describes several images: it is right for all of them.
    Every image needs a text. Ties count against the correct item. The protocol is that of CLIP on
    COCO and Flickr30k.
    """
    relevant = owner if owner.ndim == 2 else owner[:, None] == np.arange(len(images))
    text_ranks, image_ranks = cross_modal_ranks(texts @ images.T, relevant)
    return CrossModalRecall(
        text_to_image={k: float(100 * np.mean(text_ranks < k)) for k in ks},
        image_to_text={k: float(100 * np.mean(image_ranks < k)) for k in ks},
    )


def cross_modal_ranks(scores: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many wrong items rank at or above the best right one: for each text among the
    images (m,), and for each image among the texts (n,). 0 is best.

    `scores` (m, n) of texts and images, `relevant` (m, n) bool: whether the text describes the
    image.
    """
    right = np.where(relevant, scores, -np.inf)
    wrong = np.where(relevant, -np.inf, scores)
    text_ranks = (wrong >= right.max(axis=1)[:, None]).sum(axis=1)
    image_ranks = (wrong >= right.max(axis=0)[None, :]).sum(axis=0)
    return text_ranks, image_ranks


def recall_at(rankings: Rankings, relevant: RelevantIds, k: int) -> Score:
    """Compute recall@k, 0 to 1: the fraction of the relevant ids among the first `k`.

    The mean over the queries. Reference implementation: trec_eval (`recall`).
    """
    _check_k(k)
    return _mean(rankings, relevant, lambda hits, gains: sum(hits[:k]) / len(gains), f"recall@{k}")


def precision_at(rankings: Rankings, relevant: RelevantIds, k: int) -> Score:
    """Compute precision@k, 0 to 1: the number of relevant ids among the first `k`, over `k`.

    The mean over the queries. Reference implementation: trec_eval (`P`).
    """
    _check_k(k)
    return _mean(rankings, relevant, lambda hits, gains: sum(hits[:k]) / k, f"precision@{k}")


def mean_reciprocal_rank(rankings: Rankings, relevant: RelevantIds) -> Score:
    """Compute MRR, 0 to 1: one over the rank of the first relevant id, 0 without one.

    The mean over the queries. Reference implementation: trec_eval (`recip_rank`).
    """

    def reciprocal_rank(hits: list[bool], gains: Mapping[str, float]) -> float:
        return 1 / (hits.index(True) + 1) if True in hits else 0.0

    return _mean(rankings, relevant, reciprocal_rank, "mrr")


def mean_average_precision(rankings: Rankings, relevant: RelevantIds) -> Score:
    """Compute MAP, 0 to 1: the precision at each relevant hit, over the number of relevant ids.

    The mean over the queries. Reference implementation: trec_eval (`map`).
    """

    def average_precision(hits: list[bool], gains: Mapping[str, float]) -> float:
        positions = np.flatnonzero(hits)
        precisions = np.arange(1, len(positions) + 1) / (positions + 1)
        return float(np.sum(precisions) / len(gains))

    return _mean(rankings, relevant, average_precision, "map")


def ndcg_at(rankings: Rankings, relevant: RelevantIds, k: int) -> Score:
    """Compute nDCG@k, 0 to 1 (Järvelin and Kekäläinen 2002): the mean over the queries.

    Discounted gain of the first `k` over that of the ideal ranking. Gains are used as they are, as
    in trec_eval (`ndcg_cut`), the reference implementation.
    """
    _check_k(k)
    _check(rankings, relevant)
    discount = 1 / np.log2(np.arange(k) + 2)  # (k,)
    items = []
    for ids, relevant_ids in zip(rankings, relevant, strict=True):
        gains = _gains(relevant_ids)
        retrieved = np.array([gains.get(id, 0.0) for id in ids[:k]])
        ideal = np.sort(np.array(list(gains.values())))[::-1][:k]
        dcg = retrieved @ discount[: len(retrieved)]
        ideal_dcg = ideal @ discount[: len(ideal)]
        items.append(float(dcg / ideal_dcg))
    return Score(float(np.mean(items)), tuple(items), signature(f"ndcg@{k}"))


def _mean(
    rankings: Rankings,
    relevant: RelevantIds,
    item_score: Callable[[list[bool], Mapping[str, float]], float],
    name: str,
) -> Score:
    """Average `item_score(is each hit relevant?, gains)` over the queries."""
    _check(rankings, relevant)
    items = []
    for ids, relevant_ids in zip(rankings, relevant, strict=True):
        gains = _gains(relevant_ids)
        items.append(item_score([id in gains for id in ids], gains))
    return Score(float(np.mean(items)), tuple(float(item) for item in items), signature(name))


def _gains(relevant_ids: Collection[str]) -> Mapping[str, float]:
    """Return id -> gain. An id whose gain is 0 is not relevant."""
    if isinstance(relevant_ids, Mapping):
        return {id: float(gain) for id, gain in relevant_ids.items() if gain > 0}
    return dict.fromkeys(relevant_ids, 1.0)


def _check(rankings: Rankings, relevant: RelevantIds) -> None:
    if not len(rankings) == len(relevant) > 0:
        raise InvalidInput(
            "rankings and relevant must have the same length, at least 1 "
            f"({len(rankings)} and {len(relevant)})."
        )
    for query, (ids, relevant_ids) in enumerate(zip(rankings, relevant, strict=True)):
        if isinstance(ids, str) or isinstance(relevant_ids, str):
            raise InvalidInput(f"Query {query} has a text; pass a list of ids.")
        if not _gains(relevant_ids):
            raise InvalidInput(f"Query {query} has no relevant ids; leave it out.")
        if len(set(ids)) < len(ids):
            duplicate = next(id for id in ids if list(ids).count(id) > 1)
            raise InvalidInput(f'Query {query} ranks "{duplicate}" twice; keep its best rank.')


def _check_k(k: int) -> None:
    if k < 1:
        raise InvalidInput(f"k is {k}; it must be 1 or more.")
