"""Options of a search, apart from the query: one frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ravlm.errors import InvalidInput, did_you_mean
from ravlm.search.filters import Scalar
from ravlm.search.rerank import Rerank, check_rerank

Method = Literal["dense", "keyword", "hybrid"]


@dataclass(frozen=True)
class SearchOptions:
    """The `options=` of `KnowledgeBase.search`. Raises InvalidInput for a value out of range.

    Example:
        options = SearchOptions(method="hybrid", exclude_ids=("p7",))
        hits = kb.search(text="a red boat", options=options)
    """

    method: Method = "dense"
    """`dense` compares vectors, `keyword` compares words (BM25 over texts), `hybrid` fuses both."""
    exclude_ids: tuple[str, ...] = ()
    """Ids of entries that are never a hit, for example the query's own."""
    exclude_groups: tuple[Scalar, ...] = ()
    """Values of the metadata key `group`; their entries are never a hit."""
    near_duplicate: float | None = None
    """Drop entries with a part at least this similar (cosine) to the query, in its modality."""
    min_score: float | None = None
    """Drop hits below this score; same scale as the hits' `score`."""
    group_by: str | None = None
    """A metadata key (dots for nested keys): keep one hit per value.

    Entries without the key are kept."""
    diversity: float = 0.0
    """From 0 to below 1: penalty for similarity to earlier hits (maximal marginal relevance)."""
    offset: int = 0
    """Number of hits to skip, for paging."""
    overfetch: int = 4
    """Candidates examined per hit when they are fused, reranked or diversified."""
    rerank: Rerank | None = None
    """`"exact"`, a function or a cross-encoder that scores the candidates again; see `rerank`."""

    relevance: bool = False
    """Give hits a `relevance`, one number for people that all methods and modalities share."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            allowed = ", ".join(get_args(Method))
            hint = did_you_mean(str(self.method), get_args(Method))
            raise InvalidInput(f'method is "{self.method}"; allowed: {allowed}.{hint}')
        for name in ("exclude_ids", "exclude_groups"):
            if isinstance(getattr(self, name), str):
                raise InvalidInput(f"{name} is a single string; give a tuple of strings.")
        object.__setattr__(self, "exclude_ids", tuple(map(str, self.exclude_ids)))
        object.__setattr__(self, "exclude_groups", tuple(self.exclude_groups))
        self._check_numbers()
        check_rerank(self.rerank)

    def _check_numbers(self) -> None:
        if not 0 <= self.diversity < 1:
            raise InvalidInput(f"diversity is {self.diversity}; allowed: 0 (off) to below 1.")
        if self.near_duplicate is not None and not -1 <= self.near_duplicate <= 1:
            raise InvalidInput(
                f"near_duplicate is {self.near_duplicate}; give a cosine from -1 to 1, or None."
            )
        if self.offset < 0:
            raise InvalidInput(f"offset is {self.offset}; it must be at least 0.")
        if self.overfetch < 1:
            raise InvalidInput(f"overfetch is {self.overfetch}; it must be at least 1.")


DEFAULT_OPTIONS = SearchOptions()
