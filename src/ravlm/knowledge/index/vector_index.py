"""In-memory vector index of each modality, derived from the store.

A modality is a list of segments. The first is read from a snapshot, memory-mapped, and covers the
base up to some change; the last is in memory, holds what is newer and is scanned exactly. Deleted
rows are masked. A filter that keeps few rows, and a query that an `ann` can't answer in full, are
answered by a scan. A part of a multi-vector encoder also has token vectors, in a `MaxSimIndex`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ravlm.data.parallel import batched
from ravlm.encoders.token_vectors import TokenVectors
from ravlm.errors import DamagedBase
from ravlm.knowledge.candidates import EMPTY_RANKING, Ranking, merge_rankings
from ravlm.knowledge.index.exact import FlatIndex
from ravlm.knowledge.index.faiss_index import FaissIndex, SearchResult, evenly_spaced
from ravlm.knowledge.index.maxsim_index import MaxSimIndex
from ravlm.knowledge.records import MODALITY_BY_CODE
from ravlm.records import MODALITIES, Modality

SAMPLE_ROWS = 512
"""Rows that represent a modality when the distribution of chance cosines is estimated."""
TOKEN_SAMPLE_ROWS = 64
"""The same for parts with several vectors."""
ROWS_PER_READ = 8192
"""Rows read from the store at a time."""
TOKEN_ROWS_PER_READ = 128
"""The same for token vectors, which may take 300 kB each."""
MIN_ANN_SHARE = 0.2
"""Share of a segment's rows that a filter must keep for its `ann` to be searched."""
MAX_ANN_DEPTH = 0.02
"""Share of a segment's rows that an `ann` is asked for at most."""
MAX_GATHERED_ROWS = 512
"""Up to this many rows are copied out and compared, instead of a scan under a bitmap."""


class Segment:
    """Rows of one modality: an index of their vectors, their parts and entries, and a live mask.

    `parts` and `entries`, int64 (rows,), are numbers in the store; part numbers ascend. Deleted
    rows stay in the index and are masked by `alive`. `tokens`: the token vectors of a multi-vector
    encoder; `index` then holds one vector per row, the direction of their mean.
    """

    def __init__(
        self,
        index: FaissIndex,
        parts: np.ndarray,
        entries: np.ndarray,
        tokens: MaxSimIndex | None = None,
    ) -> None:
        self.index = index
        self.tokens = tokens
        self.parts = parts
        self.entries = entries
        self.alive = np.ones(len(parts), bool)
        self.num_deleted = 0

    @classmethod
    def empty(cls, dim: int, with_tokens: bool) -> Segment:
        """Return a segment without rows; `extend` adds some."""
        tokens = MaxSimIndex.empty(dim) if with_tokens else None
        return cls(FlatIndex.empty(dim), np.zeros(0, np.int64), np.zeros(0, np.int64), tokens)

    def extend(self, parts: np.ndarray, entries: np.ndarray, vectors: np.ndarray) -> None:
        """Append rows to a flat segment. `parts` must be higher than all part numbers in it."""
        assert isinstance(self.index, FlatIndex)
        self.index.add(vectors)
        self.parts = np.concatenate([self.parts, parts])
        self.entries = np.concatenate([self.entries, entries])
        self.alive = np.concatenate([self.alive, np.ones(len(parts), bool)])

    def delete(self, parts: np.ndarray) -> None:
        """Mask the rows of these parts; parts of other segments are ignored."""
        rows = np.searchsorted(self.parts, parts)
        rows = rows[rows < len(self.parts)]
        self.alive[rows[np.isin(self.parts[rows], parts)]] = False
        self.num_deleted = len(self.alive) - int(self.alive.sum())

    def search(self, queries: np.ndarray, n: int, entry_mask: np.ndarray | None) -> Ranking:
        """Return the best n rows per query (q, dim) as arrays (q, n), best first.

        `entry_mask`, bool by entry number: the entries that may be found.
        """
        num_rows = len(self.parts)
        mask = self._row_mask(entry_mask)
        num_passing = num_rows if mask is None else int(mask.sum())
        n = min(n, num_passing)
        if not n:
            return Ranking(*(np.zeros((len(queries), 0), array.dtype) for array in EMPTY_RANKING))
        queries = np.ascontiguousarray(queries, np.float32)
        # Ask for enough rows that n are left after masking, if the filter is spread evenly.
        depth = n if mask is None else math.ceil(1.2 * n * num_rows / num_passing) + 8
        if (
            self.index.ann is None
            or num_passing < MIN_ANN_SHARE * num_rows
            or depth > MAX_ANN_DEPTH * num_rows
        ):
            scores, rows = self._scan(queries, n, mask)
        else:
            scores, rows = self._search_ann(queries, n, depth, mask)
        return Ranking(self.parts[rows], self.entries[rows], np.minimum(scores, 1.0))

    def search_tokens(self, query: np.ndarray, n: int, entry_mask: np.ndarray | None) -> Ranking:
        """Return the best n rows by MaxSim of a query (t, dim) with their codes."""
        assert self.tokens is not None
        scores, rows = self.tokens.search(query, n, self._row_mask(entry_mask))
        return Ranking(self.parts[rows], self.entries[rows], scores)

    def _row_mask(self, entry_mask: np.ndarray | None) -> np.ndarray | None:
        """Return the rows that may be found, bool (rows,); None for all."""
        alive = self.alive if self.num_deleted else None
        if entry_mask is None:
            return alive
        mask = entry_mask[self.entries]
        return mask if alive is None else mask & alive

    def _scan(self, queries: np.ndarray, n: int, mask: np.ndarray | None) -> SearchResult:
        """Compare the queries with all rows that `mask` keeps: scores and rows (q, n)."""
        if mask is None or mask.sum() > MAX_GATHERED_ROWS:
            return self.index.scan(queries, n, mask)
        rows = np.flatnonzero(mask)
        scores = queries @ self.index.vectors(rows).T  # (q, rows)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
        return np.take_along_axis(scores, order, axis=1), rows[order]

    def _search_ann(
        self, queries: np.ndarray, n: int, depth: int, mask: np.ndarray | None
    ) -> SearchResult:
        """Return the best n of the top `depth` rows of the `ann` that `mask` keeps.

        Queries for which fewer than n are left are scanned.
        """
        scores, rows = self.index.search(queries, depth)  # (q, depth)
        valid = rows >= 0
        if mask is not None:
            valid &= mask[rows]
        elif valid.all():
            return scores, rows
        first = np.argsort(~valid, axis=1, kind="stable")[:, :n]
        scores = np.take_along_axis(scores, first, axis=1)  # (q, n)
        rows = np.take_along_axis(rows, first, axis=1)
        incomplete = np.flatnonzero(valid.sum(axis=1) < n)
        if len(incomplete):
            scores[incomplete], rows[incomplete] = self._scan(queries[incomplete], n, mask)
        return scores, rows


class VectorIndex:
    """All parts of one modality. `canaries` (c, dim) are vectors of it that every base has.

    `with_tokens`: each part also has token vectors.
    """

    def __init__(self, dim: int, canaries: np.ndarray, with_tokens: bool = False) -> None:
        self.dim = dim
        self.canaries = canaries
        self.segments = [Segment.empty(dim, with_tokens)]
        self._sample: np.ndarray | None = None
        self._token_sample: TokenVectors | None = None
        self._one_part_per_entry: bool | None = None

    def __len__(self) -> int:
        return sum(len(segment.parts) - segment.num_deleted for segment in self.segments)

    @property
    def one_part_per_entry(self) -> bool:
        """Whether no entry has two parts of this modality."""
        if self._one_part_per_entry is None:
            entries = np.concatenate([s.entries[s.alive] for s in self.segments])
            self._one_part_per_entry = bool((entries[1:] != entries[:-1]).all())
        return self._one_part_per_entry

    def extend(self, parts: np.ndarray, entries: np.ndarray, vectors: np.ndarray) -> None:
        """Append rows to the segment in memory."""
        self.segments[-1].extend(parts, entries, vectors)
        self._forget_statistics()

    def delete(self, parts: np.ndarray) -> None:
        """Mask deleted parts."""
        for segment in self.segments:
            segment.delete(parts)
        self._forget_statistics()

    def _forget_statistics(self) -> None:
        self._sample = self._token_sample = self._one_part_per_entry = None

    def search(
        self, queries: np.ndarray, n: int, entry_mask: np.ndarray | None = None
    ) -> list[Ranking]:
        """Return the best n parts per query (q, dim) by cosine, best first.

        `entry_mask`, bool by entry number: the entries that may be found.
        """
        results = [s.search(queries, n, entry_mask) for s in self.segments if len(s.parts)]
        if not results:
            return [EMPTY_RANKING] * len(queries)
        if len(results) == 1:
            (result,) = results  # arrays (q, n)
            of_queries = list(map(Ranking, *result))
            has_ties = (result.scores[:, 1:] == result.scores[:, :-1]).any(axis=1)  # (q,)
            for row in np.flatnonzero(has_ties).tolist():
                of_queries[row] = merge_rankings([of_queries[row]], n)
            return of_queries
        rankings = [map(Ranking, *arrays) for arrays in results]
        return [merge_rankings(of_query, n) for of_query in zip(*rankings, strict=True)]

    def search_tokens(
        self, query: np.ndarray, n: int, entry_mask: np.ndarray | None = None
    ) -> Ranking:
        """Return the best n parts of each segment by MaxSim of a query (t, dim) with their codes.

        Compare their stored vectors to order them: segments may have different codes.
        """
        segments = [segment for segment in self.segments if len(segment.parts)]
        rankings = [segment.search_tokens(query, n, entry_mask) for segment in segments]
        return merge_rankings(rankings) if rankings else EMPTY_RANKING

    def parts(self) -> np.ndarray:
        """Return the numbers of all live parts, ascending."""
        return np.concatenate([segment.parts[segment.alive] for segment in self.segments])

    def vectors(self, parts: np.ndarray) -> np.ndarray:
        """Return the vectors of `parts`, float32 (n, dim), in the same order; zeros if unknown."""
        vectors = np.zeros((len(parts), self.dim), np.float32)
        for segment, mask, rows in self._locate(parts):
            vectors[mask] = segment.index.vectors(rows)
        return vectors

    def quantized(self, parts: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return float32 `vectors` (n, dim) of `parts` in the precision of their segment."""
        quantized = vectors.copy()
        for segment, mask, _ in self._locate(parts):
            quantized[mask] = segment.index.quantized(vectors[mask])
        return quantized

    def entries(self, parts: np.ndarray) -> np.ndarray:
        """Return the entry number of each part, int64 (n,); 0 if unknown."""
        entries = np.zeros(len(parts), np.int64)
        for segment, mask, rows in self._locate(parts):
            entries[mask] = segment.entries[rows]
        return entries

    def _locate(self, parts: np.ndarray) -> Iterator[tuple[Segment, np.ndarray, np.ndarray]]:
        """Yield each segment with some of `parts`, a mask (n,) of those, and their rows."""
        for segment in self.segments:
            rows = np.searchsorted(segment.parts, parts)
            mask = rows < len(segment.parts)
            mask[mask] = segment.parts[rows[mask]] == parts[mask]
            if mask.any():
                yield segment, mask, rows[mask]

    def sample(self) -> np.ndarray:
        """Return the canaries and up to `SAMPLE_ROWS` evenly spaced vectors, float32 (n, dim)."""
        if self._sample is None:
            parts = self.parts()
            rows = evenly_spaced(len(parts), SAMPLE_ROWS)
            self._sample = np.concatenate([self.canaries, self.vectors(parts[rows])])
        return self._sample

    def token_sample(self) -> TokenVectors:
        """Return up to `TOKEN_SAMPLE_ROWS` evenly spaced parts, in the precision of their codes."""
        if self._token_sample is None:
            parts = self.parts()
            rows = evenly_spaced(len(parts), TOKEN_SAMPLE_ROWS)
            self._token_sample = self.tokens(parts[rows])
        return self._token_sample

    def tokens(self, parts: np.ndarray) -> TokenVectors:
        """Return the token vectors of `parts`, which ascend, in the precision of their codes."""
        items: list[np.ndarray] = []
        for segment, _, rows in self._locate(parts):
            assert segment.tokens is not None
            decoded = segment.tokens.tokens.decode(rows)
            items += [decoded[row] for row in range(len(rows))]
        return TokenVectors.from_items(items, self.dim)

    def differing_tokens(self, parts: np.ndarray, stored: TokenVectors) -> np.ndarray:
        """Return those of `parts`, which ascend, whose codes are not those of their `stored` token
        vectors; codes may differ by a step that was rounded in another way."""
        is_equal = np.zeros(len(parts), bool)
        for segment, mask, rows in self._locate(parts):
            assert segment.tokens is not None
            is_equal[mask] = segment.tokens.tokens.matches(rows, stored.take(np.flatnonzero(mask)))
        return parts[~is_equal]


class VectorIndexes:
    """The vector index of each modality of a base, and the change up to which they cover it.

    `with_tokens`: its encoder gives a part several vectors.
    """

    def __init__(
        self, dim: int, canaries: Mapping[Modality, np.ndarray], with_tokens: bool = False
    ) -> None:
        self.dim = dim
        self.with_tokens = with_tokens
        self.change = 0
        self.last_part = 0
        self.snapshot: Path | None = None
        """The snapshot folder that the first segments were read from."""
        self.by_modality = {
            modality: VectorIndex(dim, canaries[modality], with_tokens) for modality in MODALITIES
        }

    def update(
        self,
        rows: Iterable[tuple[int, int, int, bytes, int, int]],
        token_rows: Iterable[tuple[int, int, bytes, int]],
        removed: list[int],
        change: int,
    ) -> None:
        """Add new parts, then mask the removed ones.

        `rows` are those of `IndexSource.parts_after`, `token_rows` of `IndexSource.tokens_after`.
        """
        for batch in batched(rows, ROWS_PER_READ):
            self._add(batch)
        if self.with_tokens:
            self._add_tokens(token_rows)
        if removed:
            parts = np.array(sorted(removed), np.int64)
            for index in self.by_modality.values():
                index.delete(parts)
        self.change = change

    def _add(self, batch: list[tuple[int, int, int, bytes, int, int]]) -> None:
        numbers, owners, codes, blobs, _, _ = zip(*batch, strict=True)
        if any(len(blob) != 2 * self.dim for blob in blobs):
            raise wrong_vector_length()
        vectors = np.frombuffer(b"".join(blobs), "<f2").reshape(-1, self.dim)
        parts = np.array(numbers, np.int64)
        entries = np.array(owners, np.int64)
        modality_codes = np.array(codes, np.int64)
        for code, modality in MODALITY_BY_CODE.items():
            mask = modality_codes == code
            if mask.any():
                index = self.by_modality[modality]
                index.extend(parts[mask], entries[mask], vectors[mask].astype(np.float32))
        self.last_part = int(parts[-1])

    def _add_tokens(self, rows: Iterable[tuple[int, int, bytes, int]]) -> None:
        """Add the token vectors of the parts that were added last. Raises DamagedBase."""
        newest = {code: self.by_modality[m].segments[-1] for code, m in MODALITY_BY_CODE.items()}
        for batch in batched(rows, TOKEN_ROWS_PER_READ):
            for code, segment in newest.items():
                blobs = [blob for _, of_part, blob, _ in batch if of_part == code]
                if blobs and segment.tokens is not None:
                    segment.tokens.append(decode_tokens(blobs, self.dim))
        for segment in newest.values():
            if segment.tokens is None or len(segment.tokens) != len(segment.parts):
                raise missing_tokens()


def decode_tokens(blobs: Sequence[bytes], dim: int) -> TokenVectors:
    """Return stored token vectors, float16 (tokens, dim). Raises DamagedBase."""
    if any(not blob or len(blob) % (2 * dim) for blob in blobs):
        raise wrong_vector_length()
    vectors = np.frombuffer(b"".join(blobs), "<f2").reshape(-1, dim)
    counts = [len(blob) // (2 * dim) for blob in blobs]
    return TokenVectors(vectors, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def missing_tokens() -> DamagedBase:
    """Return the error for parts of a multi-vector encoder that have no token vectors."""
    return DamagedBase(
        "Some parts of the knowledge base have no token vectors. Run `ravlm verify` on the base."
    )


def wrong_vector_length() -> DamagedBase:
    """Return the error for a stored vector whose length is not the base's dimension."""
    return DamagedBase(
        "A stored vector has a different length than the others. Run `ravlm verify` on the base."
    )
