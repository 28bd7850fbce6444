"""How a base lies in Milvus: its collections, their fields, and a row of ours as a row of theirs.

    NAME_base          whose vectors, canaries, the number of the last change NAME_entry         an
    entry: its texts and metadata as JSON, facets, and the version of it that counts NAME_image_1,
    NAME_text_1    a part: its vector, entry, version, facets, words; a re-encoding counts the
    number up

There are no transactions over collections. So parts are written first, under a version of their
own, then the entry's row that names this version, and older parts are removed at last: a part whose
version is not its entry's is not there. A collection needs a vector field, and older servers allow
one only. Knows no client's calls."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from ravlm.knowledge.index.analyzer import index_words
from ravlm.knowledge.index.bm25 import BM25_B, BM25_K1, TermHashes
from ravlm.knowledge.records import EntryRow, PartRow
from ravlm.knowledge.milvus.filters import FIELD, facet_value
from ravlm.records import Modality

LONGEST = 65_535
"""Bytes of a text, and of a JSON value, in Milvus."""
DUMMY = [1.0, 0.0]
"""The vector of rows that have none of their own."""
LINKS, EFFORT = 32, 128
"""Of the graph index (HNSW)."""


def base_collection(name: str) -> str:
    """Where a base's own state lies."""
    return f"{name}_base"


def entry_collection(name: str) -> str:
    """Where its entries lie."""
    return f"{name}_entry"


def part_collection(name: str, modality: Modality, generation: int) -> str:
    """Where its parts lie."""
    return f"{name}_{modality}_{generation}"


def entry_key(id_: str) -> str:
    """The key of an entry's row: 32 hexadecimal digits, evenly spread, that need no quoting and
    have a fixed length."""
    return blake2b(id_.encode(), digest_size=16).hexdigest()


def hashed_words(words: str, terms: TermHashes) -> str:
    """Words as terms that every analyzer leaves as they are."""
    return " ".join(f"{terms[word] >> 16:012x}" for word in words.split())


def schema(client: Any, fields: Mapping[str, Mapping[str, Any]]) -> Any:
    """A collection's schema; `fields` by name with what `add_field` takes, the first one is the
    key."""
    from pymilvus import DataType, Function, FunctionType

    made = client.create_schema(auto_id=False, enable_dynamic_field=False)
    for at, (name, values) in enumerate(fields.items()):
        rest = {key: value for key, value in values.items() if key != "type"}
        made.add_field(name, getattr(DataType, values["type"]), is_primary=at == 0, **rest)
    if "sparse" in fields:
        made.add_function(Function("bm25", FunctionType.BM25, ["words"], ["sparse"]))
    return made


_KEY = {"type": "VARCHAR", "max_length": 64}
_LONG = {"type": "VARCHAR", "max_length": LONGEST}
BASE_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "key": _KEY,
    "value": _LONG,
    "vector": {"type": "FLOAT_VECTOR", "dim": 2},
}
ENTRY_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "key": _KEY,
    "version": _KEY,
    "digest": _KEY,
    "body": _LONG,
    FIELD: {"type": "JSON"},
    "vector": {"type": "FLOAT_VECTOR", "dim": 2},
}


def part_fields(dim: int, worded: bool) -> dict[str, Mapping[str, Any]]:
    """Fields of the parts' collections; `worded`: with the words that the server finds a text by
    (BM25)."""
    fields: dict[str, Mapping[str, Any]] = {
        "key": _KEY,
        "entry": _KEY,
        "version": _KEY,
        "number": {"type": "INT64"},
        "position": {"type": "INT64"},
        "passage": _LONG,
        "given": {"type": "BOOL"},
        "checksum": {"type": "INT64"},
        FIELD: {"type": "JSON"},
        "vector": {"type": "FLOAT_VECTOR", "dim": dim},
    }
    if worded:
        fields["words"] = {
            **_LONG,
            "enable_analyzer": True,
            "analyzer_params": {"tokenizer": "standard"},
        }
        fields["sparse"] = {"type": "SPARSE_FLOAT_VECTOR"}
    return fields


def indexes(client: Any, fields: Mapping[str, Mapping[str, Any]]) -> Any:
    """The indexes of a collection. The server makes them of what is sealed, and compares the rest
    one by one."""
    found = client.prepare_index_params()
    if fields["vector"]["dim"] == len(DUMMY):
        found.add_index("vector", index_type="FLAT", metric_type="IP")
    else:
        params: dict[str, float] = {"M": LINKS, "efConstruction": EFFORT}
        found.add_index("vector", index_type="HNSW", metric_type="IP", params=params)
    if "sparse" in fields:
        params = {"bm25_k1": BM25_K1, "bm25_b": BM25_B}
        found.add_index(
            "sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params=params
        )
    return found


def base_row(key: str, value: str) -> dict[str, Any]:
    """A row of the base's own collection."""
    return {"key": key, "value": value, "vector": DUMMY}


def packed(vectors: np.ndarray) -> str:
    """Vectors (n, dim) as text."""
    return json.dumps(
        [len(vectors), base64.b64encode(np.ascontiguousarray(vectors, "<f4").tobytes()).decode()]
    )


def unpacked(text: str) -> np.ndarray:
    """What `packed` packed."""
    rows, data = json.loads(text)
    return np.frombuffer(base64.b64decode(data), "<f4").reshape(rows, -1).astype(np.float32)


def entry_row(row: EntryRow, version: str) -> dict[str, Any]:
    """An entry's row."""
    head = {
        "id": row.id,
        "image": row.image,
        "image_hash": row.image_hash,
        "look": row.perceptual_hash and row.perceptual_hash.hex(),
    }
    plain = json.dumps(head, ensure_ascii=False)
    return {
        "key": entry_key(row.id),
        "version": version,
        "digest": row.digest,
        "body": f'{plain[:-1]}, "texts": {row.texts}, "metadata": {row.metadata}}}',
        FIELD: facet_value(row.facets),
        "vector": DUMMY,
    }


def part_rows(
    row: EntryRow, version: str, terms: TermHashes | None
) -> Iterator[tuple[Modality, dict[str, Any]]]:
    """The rows of an entry's parts; `terms` where the server finds texts by their words."""
    facets = facet_value(row.facets)
    for number, part in enumerate(row.parts):
        values = {
            "key": blake2b(f"{row.id} {version} {number}".encode(), digest_size=16).hexdigest(),
            "entry": entry_key(row.id),
            "version": version,
            "number": number,
            "position": part.position,
            "passage": part.passage or "",
            "given": part.precomputed,
            "checksum": zlib.crc32(part.vector),
            FIELD: facets,
            "vector": np.frombuffer(part.vector, "<f2").astype(np.float32),
        }
        if terms is not None and part.modality == "text":
            values["words"] = hashed_words(part.words or "", terms)
        yield part.modality, values


def part_row(values: Mapping[str, Any], modality: Modality, texts: tuple[str, ...]) -> PartRow:
    """A part's row as it was; `texts` are its entry's."""
    passage = values["passage"] or None
    position, given = int(values["position"]), bool(values["given"])
    words = None
    if modality == "text":
        words = index_words("\n".join(texts) if given else passage or texts[position])
    vector = np.asarray(values["vector"], np.float32).astype("<f2").tobytes()
    return PartRow(modality, position, passage, vector, given, words)


def fault(row: EntryRow, worded: bool) -> str:
    """Why an entry doesn't fit into Milvus; empty where it does."""
    body = len(entry_row(row, "")["body"].encode())
    facets = len(json.dumps(facet_value(row.facets)))
    words = max((len((part.words or "").split()) for part in row.parts), default=0)
    for size, most, what in (
        (body, LONGEST, "bytes of texts and metadata"),
        (facets, LONGEST, "bytes of filter values"),
        (words * 13 if worded else 0, LONGEST, "bytes of words in one part"),
    ):
        if size > most:
            return (
                f"It has {size:,} {what}, and Milvus takes {most:,}; split it into several entries."
            )
    return ""
