"""A client of a Milvus server: its requests, and its errors as clear messages."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from ravlm.data.parallel import batched
from ravlm.errors import Busy, Mismatch, MissingExtra, NotFound, RavlmError
from ravlm.knowledge.milvus import schema
from ravlm.knowledge.milvus.address import MilvusAddress

MAX_ROWS = 16_384
"""Rows that a server returns per request."""
TIMEOUT = 20.0
"""Seconds to wait for an answer."""
WRITE_BATCH = 1000
"""Rows written per request."""
KEY_BATCH = 1000
"""Keys looked up per request."""
SLICE_ROWS = 1000
"""Rows that a slice of a scan should have."""
KEY_SPACE = 2**64
"""Number of values of the first 16 digits of a key."""
_NO_COLLECTION = 100
"""Error code for a collection that does not exist."""
_FIRST_KEYWORD_VERSION = (2, 5)
"""First version of the server with keyword search."""

ScoredRow = tuple[float, Mapping[str, Any]]


class MilvusConnection:
    """A connection to one server. Raises MissingExtra, NotFound or Busy if it fails."""

    def __init__(self, address: MilvusAddress) -> None:
        packages = {"pymilvus": "pymilvus"}
        if address.is_lite:
            packages["milvus_lite"] = "milvus-lite"
        for module, package in packages.items():
            if find_spec(module) is None:
                raise MissingExtra(package, "milvus", f'The knowledge base "{address.text}"')
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints what it raises
        self.address = address
        self._is_closed = False
        with self.readable_errors():
            self.client = MilvusClient(
                address.uri, user=address.user, password=address.password, timeout=TIMEOUT
            )
            self.version = str(self.client.get_server_version())

    @property
    def has_keyword_search(self) -> bool:
        """Whether the server can search by keywords."""
        numbers = self.version.lstrip("v").split("-")[0].split(".")[:2]
        version = tuple(int(number) for number in numbers if number.isdigit())
        return self.address.is_lite or version >= _FIRST_KEYWORD_VERSION

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Raise the client's errors as RavlmError with a clear message."""
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except MilvusException as error:
            message = str(getattr(error, "message", error)).strip().rstrip(".")
            if self.address.password:
                message = message.replace(self.address.password, "***")
            raise self._translate(error.code, message) from error

    def _translate(self, code: int, message: str) -> RavlmError:
        name = self.address.text
        if self._is_closed:
            return RavlmError(f'The knowledge base "{name}" was closed; open it again.')
        if code == _NO_COLLECTION:
            return Mismatch(
                f'The knowledge base "{name}" was re-encoded or removed. Open it again.'
            )
        if "Open local milvus failed" in message:
            return Busy(
                f'"{self.address.uri}" is held by another process, or is not a file of Milvus '
                "Lite; one process at a time may use such a file."
            )
        if (
            "Fail connecting" in message
            or "Deadline" in message
            or ("unavailable" in message.lower())
        ):
            return NotFound(
                f'No Milvus server answers for "{name}" ({message}); '
                "start one, or check host and port."
            )
        return RavlmError(f'The Milvus server of "{name}" rejected a request: {message}.')

    def close(self) -> None:
        """Close the connection."""
        self._is_closed = True
        self.client.close()

    # collections

    def has_collection(self, collection: str) -> bool:
        """Return whether the collection exists."""
        with self.readable_errors():
            return bool(self.client.has_collection(collection))

    def create_collection(self, collection: str, fields: Mapping[str, Mapping[str, Any]]) -> None:
        """Create a collection and start loading it; an existing one of this name is dropped."""
        self.drop_collection(collection)
        with self.readable_errors():
            self.client.create_collection(
                collection, schema=schema.collection_schema(self.client, fields)
            )
            self.client.create_index(collection, schema.indexes(self.client, fields), sync=False)
            self.client.load_collection(collection, _async=True)

    def load_collection(self, collection: str) -> None:
        """Load a collection, and return when it can be searched."""
        with self.readable_errors():
            self.client.load_collection(collection)

    def drop_collection(self, collection: str) -> None:
        """Remove a collection if it exists."""
        with self.readable_errors():
            if self.client.has_collection(collection):
                self.client.drop_collection(collection)

    # rows

    def insert(self, collection: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert new rows."""
        with self.readable_errors():
            for batch in batched(rows, WRITE_BATCH):
                self.client.insert(collection, batch)

    def upsert(self, collection: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, replacing those of the same keys."""
        with self.readable_errors():
            for batch in batched(rows, WRITE_BATCH):
                self.client.upsert(collection, batch)

    def delete(self, collection: str, where: str) -> None:
        """Remove the rows that pass the expression."""
        with self.readable_errors():
            self.client.delete(collection, filter=where)

    def count(self, collection: str, where: str = "") -> int:
        """Return the number of rows that pass."""
        (row,) = self.query(collection, where, ["count(*)"], limit=None)
        return int(row["count(*)"])

    def query(
        self, collection: str, where: str, fields: Sequence[str], limit: int | None = MAX_ROWS
    ) -> list[Mapping[str, Any]]:
        """Return these fields of the rows that pass, in any order."""
        options = {} if limit is None else {"limit": limit}
        with self.readable_errors():
            rows = self.client.query(
                collection,
                filter=where,
                output_fields=list(fields),
                consistency_level=self.address.consistency,
                **options,
            )
            return list(rows)

    def scan(
        self, collection: str, fields: Sequence[str], where: str = "", field: str = "key"
    ) -> Iterator[Mapping[str, Any]]:
        """Yield all rows that pass, in any order, one slice of the keys at a time.

        `field` is an evenly distributed hash.
        """
        for first, last in key_slices(self.count(collection, where)):
            yield from self.slice(collection, fields, first, last, where, field)

    def slice(
        self,
        collection: str,
        fields: Sequence[str],
        first: int,
        last: int,
        where: str = "",
        field: str = "key",
    ) -> list[Mapping[str, Any]]:
        """Return the rows whose `field` is in first:last, as numbers of its first 16 digits."""
        in_slice = f'({field} >= "{first:016x}")'
        if last < KEY_SPACE:
            in_slice += f' and ({field} < "{last:016x}")'
        rows = self.query(collection, f"({where}) and {in_slice}" if where else in_slice, fields)
        if len(rows) < MAX_ROWS:
            return rows
        middle = (first + last) // 2
        return [
            *self.slice(collection, fields, first, middle, where, field),
            *self.slice(collection, fields, middle, last, where, field),
        ]

    def vector_search(
        self, collection: str, vectors: np.ndarray, n: int, where: str, fields: Sequence[str]
    ) -> list[list[ScoredRow]]:
        """Return the n nearest rows of each vector (q, dim) with their cosines, best first."""
        effort = min(2 * MAX_ROWS, max(schema.HNSW_EFFORT, 2 * n))
        params = {"metric_type": "IP", "params": {"ef": effort}}
        return self._search(collection, list(vectors), "vector", n, where, fields, params)

    def keyword_search(
        self, collection: str, words: str, n: int, where: str, fields: Sequence[str]
    ) -> list[ScoredRow]:
        """Return the n best rows for `words` with their BM25 scores, best first."""
        params = {"metric_type": "BM25"}
        (rows,) = self._search(collection, [words], "sparse", n, where, fields, params)
        if self.address.is_lite:  # Milvus Lite returns negative scores
            return [(-score, row) for score, row in rows]
        return rows

    def _search(
        self,
        collection: str,
        data: list[Any],
        field: str,
        n: int,
        where: str,
        fields: Sequence[str],
        params: Mapping[str, Any],
    ) -> list[list[ScoredRow]]:
        with self.readable_errors():
            results = self.client.search(
                collection,
                data,
                anns_field=field,
                filter=where,
                limit=n,
                output_fields=list(fields),
                search_params=params,
                consistency_level=self.address.consistency,
            )
        return [
            [(float(hit["distance"]), dict(hit["entity"])) for hit in of_query]
            for of_query in results
        ]


def key_slices(num_rows: int) -> Iterator[tuple[int, int]]:
    """Yield consecutive key ranges that together cover all keys, SLICE_ROWS rows in each."""
    num_slices = max(1, -(-num_rows // SLICE_ROWS))
    bounds = [position * KEY_SPACE // num_slices for position in range(num_slices + 1)]
    yield from pairwise(bounds)
