"""How a base is stored in Milvus: its collections, their fields, and the conversion of rows.

    NAME_base                  identity of the base, canaries, number of the last change
    NAME_entry                 entries: texts and metadata as JSON, facets, current version
    NAME_image_1, NAME_text_1  parts: vector, entry, version, facets, words; the number is the
                               generation, which a re-encoding increments

There are no transactions over collections. So parts are written first, under a version of their
own, then the entry's row that names this version, and old parts are removed last: a part whose
version is not its entry's does not count. A collection needs a vector field, and older servers
allow only one.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from ravlm.knowledge.index.bm25 import BM25_B, BM25_K1
from ravlm.knowledge.index.keyword_fields import keyword_terms
from ravlm.knowledge.index.terms import TermHashes, max_terms
from ravlm.knowledge.milvus.filters import FIELD, facet_value
from ravlm.knowledge.records import EntryRow, PartRow
from ravlm.records import Entry, Modality

Fields = Mapping[str, Mapping[str, Any]]
"""Fields of a collection by name, with the arguments of `add_field`; the first is the key."""
MAX_TEXT_BYTES = 65_535
"""Size limit of a text and of a JSON value in Milvus."""
TERM_BYTES = 13
"""Bytes of a hashed term and a blank."""
DUMMY_VECTOR = [1.0, 0.0]
"""Vector of rows that have none of their own."""
HNSW_LINKS = 32
HNSW_EFFORT = 128
"""Parameters of the graph index (HNSW)."""


def base_collection(name: str) -> str:
    """Return the collection with the base's own state."""
    return f"{name}_base"


def entry_collection(name: str) -> str:
    """Return the collection of entries."""
    return f"{name}_entry"


def part_collection(name: str, modality: Modality, generation: int) -> str:
    """Return the collection of a modality's parts."""
    return f"{name}_{modality}_{generation}"


def entry_key(id_: str) -> str:
    """Return the key of an entry's row: 32 hexadecimal digits, evenly distributed."""
    return blake2b(id_.encode(), digest_size=16).hexdigest()


def term_text(terms: Iterable[int]) -> str:
    """Return terms as words that every analyzer leaves unchanged."""
    return " ".join(f"{term >> 16:012x}" for term in terms)


def collection_schema(client: Any, fields: Fields) -> Any:
    """Return the schema of a collection."""
    from pymilvus import DataType, Function, FunctionType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    for position, (name, values) in enumerate(fields.items()):
        options = {key: value for key, value in values.items() if key != "type"}
        data_type = getattr(DataType, values["type"])
        schema.add_field(name, data_type, is_primary=position == 0, **options)
    if "sparse" in fields:
        schema.add_function(Function("bm25", FunctionType.BM25, ["words"], ["sparse"]))
    return schema


_KEY = {"type": "VARCHAR", "max_length": 64}
_LONG_TEXT = {"type": "VARCHAR", "max_length": MAX_TEXT_BYTES}
_DUMMY = {"type": "FLOAT_VECTOR", "dim": len(DUMMY_VECTOR)}
BASE_FIELDS: Fields = {"key": _KEY, "value": _LONG_TEXT, "vector": _DUMMY}
ENTRY_FIELDS: Fields = {
    "key": _KEY,
    "version": _KEY,
    "digest": _KEY,
    "body": _LONG_TEXT,
    FIELD: {"type": "JSON"},
    "vector": _DUMMY,
}


def part_fields(dim: int, with_words: bool) -> Fields:
    """Return the fields of a collection of parts; `with_words` adds keyword search (BM25)."""
    fields: dict[str, Mapping[str, Any]] = {
        "key": _KEY,
        "entry": _KEY,
        "version": _KEY,
        "number": {"type": "INT64"},
        "position": {"type": "INT64"},
        "passage": _LONG_TEXT,
        "given": {"type": "BOOL"},
        "checksum": {"type": "INT64"},
        FIELD: {"type": "JSON"},
        "vector": {"type": "FLOAT_VECTOR", "dim": dim},
    }
    if with_words:
        analyzer = {"enable_analyzer": True, "analyzer_params": {"tokenizer": "standard"}}
        fields["words"] = {**_LONG_TEXT, **analyzer}
        fields["sparse"] = {"type": "SPARSE_FLOAT_VECTOR"}
    return fields


def indexes(client: Any, fields: Fields) -> Any:
    """Return the indexes of a collection.

    The server builds them for sealed rows, and searches the other rows exactly.
    """
    params = client.prepare_index_params()
    if fields["vector"]["dim"] == len(DUMMY_VECTOR):
        params.add_index("vector", index_type="FLAT", metric_type="IP")
    else:
        graph = {"M": HNSW_LINKS, "efConstruction": HNSW_EFFORT}
        params.add_index("vector", index_type="HNSW", metric_type="IP", params=graph)
    if "sparse" in fields:
        params.add_index(
            "sparse",
            index_type="SPARSE_INVERTED_INDEX",
            metric_type="BM25",
            params={"bm25_k1": BM25_K1, "bm25_b": BM25_B},
        )
    return params


def base_row(key: str, value: str) -> dict[str, Any]:
    """Return a row of the base's own collection."""
    return {"key": key, "value": value, "vector": DUMMY_VECTOR}


def encode_vectors(vectors: np.ndarray) -> str:
    """Return vectors (n, dim) as text."""
    data = np.ascontiguousarray(vectors, "<f4").tobytes()
    return json.dumps([len(vectors), base64.b64encode(data).decode()])


def decode_vectors(text: str) -> np.ndarray:
    """Return the vectors that `encode_vectors` encoded."""
    num_rows, data = json.loads(text)
    return np.frombuffer(base64.b64decode(data), "<f4").reshape(num_rows, -1).astype(np.float32)


def entry_values(row: EntryRow, version: str) -> dict[str, Any]:
    """Return an entry as a row of its collection."""
    head = {
        "id": row.id,
        "image": row.image,
        "image_hash": row.image_hash,
        "look": row.perceptual_hash and row.perceptual_hash.hex(),
    }
    head_json = json.dumps(head, ensure_ascii=False)
    regions = "" if row.regions is None else f', "regions": {row.regions}'
    return {
        "key": entry_key(row.id),
        "version": version,
        "digest": row.digest,
        "body": f'{head_json[:-1]}, "texts": {row.texts}, "metadata": {row.metadata}{regions}}}',
        FIELD: facet_value(row.facets),
        "vector": DUMMY_VECTOR,
    }


def part_values(
    row: EntryRow, version: str, hashes: TermHashes | None
) -> Iterator[tuple[Modality, dict[str, Any]]]:
    """Yield an entry's parts as rows; `hashes` if the server searches by keywords."""
    facets = facet_value(row.facets)
    entry = entry_key(row.id)
    for number, part in enumerate(row.parts):
        key = blake2b(f"{row.id} {version} {number}".encode(), digest_size=16).hexdigest()
        values = {
            "key": key,
            "entry": entry,
            "version": version,
            "number": number,
            "position": part.position,
            "passage": part.passage or "",
            "given": part.precomputed,
            "checksum": zlib.crc32(part.vector),
            FIELD: facets,
            "vector": np.frombuffer(part.vector, "<f2").astype(np.float32),
        }
        if hashes is not None and part.modality == "text":
            values["words"] = term_text(hashes.index_terms((part.words or "").split()))
        yield part.modality, values


def part_row(values: Mapping[str, Any], modality: Modality, entry: Entry) -> PartRow:
    """Return a part's row of `entry` as it was stored."""
    passage = values["passage"] or None
    position = int(values["position"])
    precomputed = bool(values["given"])
    words = None
    if modality == "text":
        words = keyword_terms(entry, position, passage, precomputed)
    vector = np.asarray(values["vector"], np.float32).astype("<f2").tobytes()
    return PartRow(modality, position, passage, vector, precomputed, words)


def size_error(row: EntryRow, with_words: bool) -> str:
    """Return why an entry is too large for Milvus; an empty string if it is not."""
    max_words = max((max_terms(part.words or "") for part in row.parts), default=0)
    sizes = {
        "bytes of texts, regions and metadata": len(entry_values(row, "")["body"].encode()),
        "bytes of filter values": len(json.dumps(facet_value(row.facets))),
        "bytes of words in one part": max_words * TERM_BYTES if with_words else 0,
    }
    for label, size in sizes.items():
        if size > MAX_TEXT_BYTES:
            return (
                f"It has {size:,} {label}, but Milvus accepts {MAX_TEXT_BYTES:,}; "
                "split it into several entries."
            )
    return ""
