"""How a search chooses its hits, apart from the query itself: one frozen record.

Knows no store: the knowledge base reads these values and carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ravlm.errors import InvalidInput, did_you_mean
from ravlm.search.filters import Scalar
from ravlm.search.rerank import Rerank, check_rerank

Method = Literal["dense", "keyword", "hybrid"]


@dataclass(frozen=True)
class SearchOptions:
    """What `KnowledgeBase.search` takes as `options=`; raises InvalidInput for a value that is not
    allowed."""

    method: Method = "dense"
    """`dense` compares vectors, `keyword` words (BM25, over texts), `hybrid` fuses both
    rankings."""
    exclude_ids: tuple[str, ...] = ()
    """Entries that are never a hit: the query's own, say."""
    exclude_groups: tuple[Scalar, ...] = ()
    """Values of the metadata key `group` whose entries are never a hit."""
    near_duplicate: float | None = None
    """Entries with a part this similar (cosine) to the query, in the query's own modality, are
    never a hit."""
    min_score: float | None = None
    """Hits below it are dropped; on the scale of the hits' `score`."""
    group_by: str | None = None
    """A metadata key, with dots for nested ones: one hit for each of its values (entries without it
    stand alone)."""
    diversity: float = 0.0
    """0 to below 1: how much a hit may lose for resembling the hits before it (maximal marginal
    relevance)."""
    offset: int = 0
    """Hits to skip, for the next page."""
    overfetch: int = 4
    """Candidates looked at for each hit that is wanted, where they are fused, reranked or made
    diverse."""
    rerank: Rerank | None = None
    """A second judge of the candidates, whose scores the hits then have: `exact`, a function, or a
    cross-encoder (see `ravlm.search.rerank`)."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            allowed = ", ".join(get_args(Method))
            raise InvalidInput(
                f'method is "{self.method}"; allowed: {allowed}.{did_you_mean(str(self.method), get_args(Method))}'
            )
        for name in ("exclude_ids", "exclude_groups"):
            if isinstance(getattr(self, name), str):
                raise InvalidInput(f"{name} is a single string; give a tuple of them.")
        object.__setattr__(self, "exclude_ids", tuple(map(str, self.exclude_ids)))
        object.__setattr__(self, "exclude_groups", tuple(self.exclude_groups))
        if not 0 <= self.diversity < 1:
            raise InvalidInput(f"diversity is {self.diversity}; allowed: 0 (off) to below 1.")
        if self.near_duplicate is not None and not -1 <= self.near_duplicate <= 1:
            raise InvalidInput(
                f"near_duplicate is {self.near_duplicate}; a cosine from -1 to 1 is needed, or None."
            )
        if self.offset < 0:
            raise InvalidInput(f"offset is {self.offset}; a number of hits from 0 on is needed.")
        check_rerank(self.rerank)
        if self.overfetch < 1:
            raise InvalidInput(f"overfetch is {self.overfetch}; a factor from 1 on is needed.")
