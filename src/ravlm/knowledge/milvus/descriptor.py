"""The descriptor of a base on Milvus: its identity and settings, one row of its own collection.

It is written last, so a base that has one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from ravlm.errors import Mismatch
from ravlm.knowledge.milvus import schema
from ravlm.knowledge.milvus.client import MilvusConnection
from ravlm.knowledge.records import Identity
from ravlm.records import Modality

FORMAT = 1
_KEY = "kept"
"""Key of the descriptor's row; the names in its JSON are part of the format, too."""


@dataclass(frozen=True)
class BaseDescriptor:
    """What a base records about itself."""

    identity: Identity
    generation: int = 1
    """Incremented by a re-encoding; the collections of parts are named by it."""
    has_keywords: bool = True
    """Whether texts can be searched by keywords."""
    files: str | None = None
    """Folder of images that came as bytes."""

    def to_json(self) -> str:
        """Return the descriptor as it is stored."""
        return json.dumps({
            "identity": asdict(self.identity),
            "generation": self.generation,
            "worded": self.has_keywords,
            "files": self.files,
            "format": FORMAT,
        })  # fmt: skip

    @classmethod
    def from_json(cls, text: str, address: str) -> BaseDescriptor:
        """Parse a stored descriptor. Raises Mismatch if a newer ravlm wrote it."""
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise Mismatch(
                f'The knowledge base "{address}" has format {values["format"]}, but this ravlm '
                f"reads {FORMAT}; install a newer ravlm."
            )
        identity = Identity(**values["identity"])
        return cls(identity, values["generation"], values["worded"], values["files"])


def find_descriptor(connection: MilvusConnection) -> BaseDescriptor | None:
    """Return the descriptor of the base at the connection's address; None if there is no base.

    Raises Mismatch if a newer ravlm wrote it.
    """
    collection = schema.base_collection(connection.address.name)
    if not connection.has_collection(collection):
        return None
    connection.load_collection(collection)
    return read_descriptor(connection)


def read_descriptor(connection: MilvusConnection) -> BaseDescriptor | None:
    """Return the descriptor from the base's collection, which exists and is loaded."""
    text = read_value(connection, _KEY)
    return None if text is None else BaseDescriptor.from_json(text, connection.address.text)


def write_descriptor(
    connection: MilvusConnection,
    descriptor: BaseDescriptor,
    canaries: Mapping[Modality, np.ndarray],
) -> None:
    """Store the canaries and then the descriptor."""
    collection = schema.base_collection(connection.address.name)
    rows = [
        schema.base_row(f"canaries {modality}", schema.encode_vectors(vectors))
        for modality, vectors in canaries.items()
    ]
    connection.upsert(collection, rows)
    connection.upsert(collection, [schema.base_row(_KEY, descriptor.to_json())])


def read_value(connection: MilvusConnection, key: str) -> str | None:
    """Return a value of the base's own collection; None if it is not set."""
    collection = schema.base_collection(connection.address.name)
    rows = connection.query(collection, f'key == "{key}"', ("value",))
    return str(rows[0]["value"]) if rows else None
