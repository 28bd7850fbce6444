"""The way to a Milvus server: a client, what it is asked, and its errors as sentences.

Knows collections by their names, and nothing of what is in them.
"""

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
from ravlm.knowledge.milvus.address import Address

MOST = 16_384
"""Rows that a server gives at a time."""
WAIT = 20.0
"""Seconds for an answer."""
WRITTEN, ASKED, SLICE = 1000, 1000, 1000
"""Rows that are written at a time, keys that are asked for, and rows that a slice of a scan should
have."""
KEYS = 2**64
"""How many numbers the first 16 digits of a key can be."""
_MISSING = 100
"""The code of "no such collection"."""
_FIRST_WORDED = (2, 5)
"""The first version of the server that searches by words."""


class Connection:
    """A client of one server. Raises MissingExtra, NotFound or Busy when it can't be had."""

    def __init__(self, address: Address) -> None:
        for package, name in (
            ("pymilvus", "pymilvus"),
            *((("milvus_lite", "milvus-lite"),) if address.lite else ()),
        ):
            if find_spec(package) is None:
                raise MissingExtra(name, "milvus", f'The knowledge base "{address.text}"')
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints what it raises
        self.address, self._closed = address, False
        with self.told():
            self.client = MilvusClient(
                address.uri, user=address.user, password=address.password, timeout=WAIT
            )
            self.version = str(self.client.get_server_version())

    @property
    def worded(self) -> bool:
        """Whether the server can search by words."""
        numbers = [
            int(part)
            for part in self.version.lstrip("v").split("-")[0].split(".")[:2]
            if part.isdigit()
        ]
        return self.address.lite or tuple(numbers) >= _FIRST_WORDED

    @contextmanager
    def told(self) -> Iterator[None]:
        """The client's errors as sentences."""
        from pymilvus.exceptions import MilvusException

        name = self.address.text
        try:
            yield
        except MilvusException as error:
            what = str(getattr(error, "message", error)).strip().rstrip(".")
            if self._closed:
                raise RavlmError(
                    f'The knowledge base "{name}" was closed; open it again.'
                ) from error
            if error.code == _MISSING:
                raise Mismatch(
                    f'The knowledge base "{name}" was re-encoded or removed; open it again.'
                ) from error
            if "Open local milvus failed" in what:
                raise Busy(
                    f'"{self.address.uri}" is held by another process, or is no file of Milvus Lite; one process at a '
                    "time may use such a file."
                ) from error
            if "Fail connecting" in what or "unavailable" in what.lower() or "Deadline" in what:
                raise NotFound(
                    f'No Milvus server answers for "{name}" ({what}); start one, or check host and port.'
                ) from error
            raise RavlmError(
                f'The Milvus server of "{name}" refused what it was asked: {what}.'
            ) from error

    def close(self) -> None:
        """Give the client back."""
        self._closed = True
        self.client.close()

    # collections

    def has(self, collection: str) -> bool:
        """Whether there is such a collection."""
        with self.told():
            return bool(self.client.has_collection(collection))

    def make(self, collection: str, fields: Mapping[str, Mapping[str, Any]]) -> None:
        """A new collection, which the server begins to load; one of this name that was there is
        dropped."""
        self.drop(collection)
        with self.told():
            self.client.create_collection(collection, schema=schema.schema(self.client, fields))
            self.client.create_index(collection, schema.indexes(self.client, fields), sync=False)
            self.client.load_collection(collection, _async=True)

    def load(self, collection: str) -> None:
        """Wait until it can be searched; the server loads it where it hadn't."""
        with self.told():
            self.client.load_collection(collection)

    def drop(self, collection: str) -> None:
        """Remove a collection, if it is there."""
        with self.told():
            if self.client.has_collection(collection):
                self.client.drop_collection(collection)

    # rows

    def insert(self, collection: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write new rows."""
        with self.told():
            for some in batched(rows, WRITTEN):
                self.client.insert(collection, some)

    def upsert(self, collection: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows, each in the place of one of its key."""
        with self.told():
            for some in batched(rows, WRITTEN):
                self.client.upsert(collection, some)

    def delete(self, collection: str, where: str) -> None:
        """Remove the rows that pass the expression."""
        with self.told():
            self.client.delete(collection, filter=where)

    def count(self, collection: str, where: str = "") -> int:
        """How many rows pass."""
        (found,) = self.query(collection, where, ["count(*)"], limit=None)
        return int(found["count(*)"])

    def query(
        self, collection: str, where: str, fields: Sequence[str], limit: int | None = MOST
    ) -> list[Mapping[str, Any]]:
        """Rows that pass, with these fields, in any order."""
        limits = {} if limit is None else {"limit": limit}
        with self.told():
            return list(
                self.client.query(
                    collection,
                    filter=where,
                    output_fields=list(fields),
                    consistency_level=self.address.consistency,
                    **limits,
                )
            )

    def scan(
        self, collection: str, fields: Sequence[str], where: str = "", field: str = "key"
    ) -> Iterator[Mapping[str, Any]]:
        """All rows that pass, a slice of the keys at a time: `field` is an evenly spread hash. In
        no order."""
        for first, last in slices(self.count(collection, where)):
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
        """The rows whose `field` is from `first` to before `last`, numbers that stand for its first
        16 digits."""
        within = f'({field} >= "{first:016x}")' + (
            f' and ({field} < "{last:016x}")' if last < KEYS else ""
        )
        found = self.query(collection, f"({where}) and {within}" if where else within, fields)
        if len(found) < MOST:
            return found
        halves = ((first, (first + last) // 2), ((first + last) // 2, last))
        return [
            row for half in halves for row in self.slice(collection, fields, *half, where, field)
        ]

    def search(
        self,
        collection: str,
        data: Sequence[Any] | np.ndarray,
        n: int,
        where: str,
        fields: Sequence[str],
    ) -> list[list[tuple[float, Mapping[str, Any]]]]:
        """The best n rows for each vector (q, dim), or for each text of words: scores and rows,
        best first."""
        words = not isinstance(data, np.ndarray)
        params: dict[str, Any] = {"metric_type": "BM25"} if words else {"metric_type": "IP"}
        if not words:
            params["params"] = {"ef": min(2 * MOST, max(schema.EFFORT, 2 * n))}
        with self.told():
            found = self.client.search(
                collection,
                list(data),
                anns_field="sparse" if words else "vector",
                filter=where,
                limit=n,
                output_fields=list(fields),
                search_params=params,
                consistency_level=self.address.consistency,
            )
        sign = (
            -1.0 if words and self.address.lite else 1.0
        )  # Milvus Lite tells the better by the lower score
        return [
            [(sign * float(hit["distance"]), dict(hit["entity"])) for hit in hits] for hits in found
        ]


def slices(rows: int) -> Iterator[tuple[int, int]]:
    """Neighbouring ranges of keys, each of which has about SLICE of so many rows."""
    count = max(1, -(-rows // SLICE))
    bounds = [at * KEYS // count for at in range(count + 1)]
    yield from pairwise(bounds)
