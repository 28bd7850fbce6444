"""What a knowledge base lies in, as one interface: its rows, a state of them that is searched, and
their upkeep.

A folder (`local`) and a Milvus server (`milvus`) implement it; `KnowledgeBase` is the same over
both. Knows neither."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ravlm.knowledge.candidates import Candidates
from ravlm.knowledge.records import EntryRow, Identity
from ravlm.knowledge.reports import Info, Page, Trial, TuneReport, VerifyReport
from ravlm.records import Entry, Modality, Part
from ravlm.search.filters import Filter

if TYPE_CHECKING:
    import os

    from ravlm.encoders.base import Encoder
    from ravlm.knowledge.index.tuning import Requirements

Limit: TypeAlias = Any
"""Which entries may be found, in a back end's own form; None where all may."""
Drawn: TypeAlias = "list[tuple[Entry, Part, np.ndarray]]"




class Rows(ABC):
    """The truth: entries with their parts and vectors. A method sees one state, or makes one
    change."""

    @abstractmethod
    def canaries(self) -> dict[Modality, np.ndarray]:
        """The stored vectors of the canaries, float32 (n, dim) for each modality."""

    @abstractmethod
    def count(self, where: Filter | None = None) -> int:
        """How many entries pass `where`."""

    @abstractmethod
    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """The digests of those of `ids` that are stored, by id."""

    @abstractmethod
    def entries(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Those of `ids` that are stored, by id."""

    @abstractmethod
    def page(self, n: int, after: str, where: Filter | None) -> Page:
        """The first n entries that pass `where` after the place `after` (empty: the beginning), in
        an order of the back end's own that stays. Raises InvalidInput for a place that is none."""

    @abstractmethod
    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """The picture's vector (dim,) float32 of each of these entries that has one, by id."""

    @abstractmethod
    def rows(self) -> Iterator[EntryRow]:
        """All entries with their parts; where a picture lies, and not its bytes."""

    @abstractmethod
    def contents(self) -> Iterator[tuple[str, str | None, str, bytes | None]]:
        """Id, hash of the picture, texts as JSON and look of each entry."""

    @abstractmethod
    def put(self, rows: Sequence[EntryRow], identity: Identity) -> int:
        """Store a batch; entries of the same ids are replaced. Returns how many were.

        Raises Mismatch where the base's identity isn't the one that the rows were made for.
        """

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> int:
        """Remove entries; returns how many there were."""

    def fault(self, row: EntryRow) -> str:
        """Why this entry can't be stored; empty where it can."""
        return ""


class View(ABC):
    """One state of a base, for one search. Parts and entries are numbers that mean something within
    it alone."""

    most: int | None = None
    """Candidates that it gives at most; None where it gives all."""

    @property
    @abstractmethod
    def modalities(self) -> Sequence[Modality]:
        """Those that have parts, or may have."""

    @abstractmethod
    def one_each(self, modality: Modality) -> bool:
        """Whether it is known that no entry has two parts of that modality."""

    @abstractmethod
    def limit(self, where: Filter | None, without: Sequence[str] = ()) -> Limit:
        """The entries that pass `where`, but for those of the ids `without`."""

    @abstractmethod
    def narrowed(self, limit: Limit, entries: np.ndarray) -> Limit:
        """The same without these entries."""

    @abstractmethod
    def nearest(
        self, modality: Modality, vectors: np.ndarray, n: int, limit: Limit
    ) -> list[Candidates]:
        """The n best parts for each vector (q, dim): cosines, best first."""

    @abstractmethod
    def worded(self, text: str, n: int, limit: Limit) -> Candidates:
        """The n best text parts that have a word of `text`: BM25, best first."""

    @abstractmethod
    def sample(self, modality: Modality) -> np.ndarray:
        """Vectors (n, dim) that stand for a modality, its canaries among them."""

    @abstractmethod
    def vectors(self, parts: np.ndarray) -> tuple[list[Modality], np.ndarray]:
        """Modality of each part, and the stored vectors (n, dim) float32."""

    @abstractmethod
    def values(self, entries: np.ndarray, key: str) -> list[tuple[int, str | int | float] | None]:
        """What each entry has under a metadata key, as (kind, value); None where it has nothing."""

    @abstractmethod
    def read(self, parts: np.ndarray, entries: np.ndarray) -> tuple[list[Entry], list[Part]]:
        """What hits show of each of these parts; `entries` are theirs."""


class Backend(ABC):
    """An open base. `name`: how it is named in a sentence and on the command line."""

    name: str
    rows: Rows
    identity: Identity
    """Whose vectors it holds, as it was when it was opened."""

    @staticmethod
    @abstractmethod
    def is_there(path: str | os.PathLike[str]) -> bool:
        """Whether there is a base that was made whole. Raises InvalidInput for a path that is
        none."""

    @classmethod
    @abstractmethod
    def open(cls, path: str | os.PathLike[str]) -> Backend:
        """The base there. Raises NotFound where there is none."""

    @classmethod
    @abstractmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        identity: Callable[[], tuple[Identity, dict[Modality, np.ndarray]]],
    ) -> Backend:
        """An empty base; whose vectors it will hold, and their canaries, are asked for when the
        place proved free.

        Raises InvalidInput where something else is there; nothing is left behind when it fails.
        """

    @property
    @abstractmethod
    def place(self) -> Path | str:
        """The folder or address."""

    @property
    @abstractmethod
    def derived(self) -> Path:
        """A folder for files that may be lost."""

    @abstractmethod
    def change(self) -> int:
        """The number of the last committed change; another one after each."""

    @abstractmethod
    def check_same(self) -> None:
        """Raise Mismatch where the base was re-encoded since it was opened."""

    @abstractmethod
    def viewing(self) -> AbstractContextManager[View]:
        """The newest state, for searches within the block. Raises Mismatch after a re-encoding."""

    @abstractmethod
    def info(self) -> Info:
        """Sizes and state."""

    @abstractmethod
    def draw(self, n: int, modality: Modality, seed: int) -> Drawn:
        """Up to n parts of a modality, drawn at random, with their entries and stored vectors
        (dim,)."""

    @abstractmethod
    def optimize(self) -> None:
        """Bring the indexes up to date; returns when searches use them."""

    @abstractmethod
    def tune(self, wishes: Requirements, told: Callable[[Trial], None]) -> TuneReport:
        """Measure kinds of index on the base's own vectors and keep the best."""

    @abstractmethod
    def compact(self) -> None:
        """Clear away what was removed."""

    @abstractmethod
    def verify(self, encoder: Callable[[], Encoder], sample: int) -> VerifyReport:
        """Prove the base, by encoding `sample` entries again too."""

    @abstractmethod
    def reencode(
        self,
        encoder: Encoder,
        canaries: dict[Modality, np.ndarray],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Let the encoder's vectors take the place of all present ones, at once; goes on where it
        stopped."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held."""

    @abstractmethod
    def take_back(self) -> bool:
        """Close a base that `create` made, and remove it unless it has entries; tells whether it
        was removed."""
