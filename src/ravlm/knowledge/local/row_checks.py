"""Check the rows of a store: their types, and that those of all tables belong together.

SQLite stores a value of any type in any column, so a file can be sound and its rows not. They are
not checked when they are read: if something unexpected happens then, these checks tell why.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ravlm.errors import DamagedBase, RavlmError

ROW_CHECKS = {
    "entries with values of the wrong type": """
        SELECT COUNT(*) FROM entry WHERE typeof(id) != 'text'
        OR typeof(image) NOT IN ('text', 'null') OR typeof(image_hash) NOT IN ('text', 'null')
        OR typeof(digest) != 'text' OR typeof(look) NOT IN ('blob', 'null')
        OR number NOT BETWEEN 1 AND 1099511627776
        OR CASE WHEN typeof(texts) != 'text' OR NOT json_valid(texts) THEN 1
            WHEN json_type(texts) != 'array' THEN 1
            ELSE EXISTS (SELECT 1 FROM json_each(texts) WHERE type != 'text') END
        OR CASE WHEN typeof(metadata) != 'text' OR NOT json_valid(metadata) THEN 1
            ELSE json_type(metadata) != 'object' END
        OR CASE WHEN regions IS NULL THEN 0
            WHEN typeof(regions) != 'text' OR NOT json_valid(regions) THEN 1
            ELSE json_type(regions) != 'array' END""",
    "parts with values of the wrong type": """
        SELECT COUNT(*) FROM part WHERE modality NOT IN (0, 1) OR typeof(position) != 'integer'
        OR position < 0 OR typeof(passage) NOT IN ('text', 'null')
        OR typeof(words) NOT IN ('text', 'null') OR typeof(vector) != 'blob'
        OR typeof(checksum) != 'integer' OR number NOT BETWEEN 1 AND 1099511627776""",
    "filter values of the wrong type": """
        SELECT COUNT(*) FROM facet WHERE typeof(key) != 'text' OR typeof(kind) != 'integer'
        OR typeof(value) = 'blob' OR typeof(entry) != 'integer'""",
    "vectors of the wrong length": """
        WITH identity AS (SELECT json_extract(value, '$.dim') AS dim FROM base
            WHERE key = 'identity' AND json_valid(value))
        SELECT (SELECT COUNT(*) FROM part, identity WHERE LENGTH(vector) != 2 * dim)
        + (SELECT COUNT(*) FROM canary, identity WHERE LENGTH(vector) != 4 * dim)""",
    "modalities without canary vectors": """
        SELECT COUNT(*) FROM (SELECT 0 AS modality UNION SELECT 1)
        WHERE modality NOT IN (SELECT modality FROM canary)""",
    "numbers that are too large": """
        SELECT (SELECT COUNT(*) FROM sqlite_sequence
            WHERE typeof(seq) != 'integer' OR seq NOT BETWEEN 0 AND 1099511627776)
        + (SELECT COUNT(*) FROM removed
            WHERE typeof(change) != 'integer' OR typeof(part) != 'integer')""",
    "parts without token vectors": """
        SELECT COUNT(*) FROM part, base WHERE base.key = 'identity' AND json_valid(base.value)
        AND json_extract(base.value, '$.token_pooling') > 0
        AND part.number NOT IN (SELECT part FROM token_vectors)""",
    "token vectors of the wrong length": """
        WITH identity AS (SELECT json_extract(value, '$.dim') AS dim FROM base
            WHERE key = 'identity' AND json_valid(value))
        SELECT COUNT(*) FROM token_vectors, identity WHERE typeof(vectors) != 'blob'
        OR LENGTH(vectors) = 0 OR LENGTH(vectors) % (2 * dim) != 0
        OR typeof(checksum) != 'integer'""",
    "token vectors without a part": (
        "SELECT COUNT(*) FROM token_vectors WHERE part NOT IN (SELECT number FROM part)"
    ),
    "parts without an entry": (
        "SELECT COUNT(*) FROM part WHERE entry NOT IN (SELECT number FROM entry)"
    ),
    "entries without a part": (
        "SELECT COUNT(*) FROM entry WHERE number NOT IN (SELECT entry FROM part)"
    ),
    "filter values without an entry": (
        "SELECT COUNT(*) FROM facet WHERE entry NOT IN (SELECT number FROM entry)"
    ),
    "texts without keywords": "SELECT COUNT(*) FROM part WHERE modality = 1 AND words IS NULL",
    "removed parts that still exist": (
        "SELECT COUNT(*) FROM removed JOIN part ON part.number = removed.part"
    ),
}
"""What must not occur -> a query that counts it. Numbers are counted up: none is near 2^40."""
UNEXPECTED_ERRORS = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What code raises that relies on the types of rows."""


def find_damaged_rows(db: sqlite3.Connection) -> list[str]:
    """Return a sentence for each kind of damage."""
    counts = {label: db.execute(sql).fetchone()[0] for label, sql in ROW_CHECKS.items()}
    return [f"There are {count:,} {label}." for label, count in counts.items() if count]


@contextmanager
def damage_explained(db: sqlite3.Connection) -> Iterator[None]:
    """Raise DamagedBase for an unexpected error of a block that reads damaged rows."""
    try:
        yield
    except RavlmError:
        raise
    except UNEXPECTED_ERRORS as error:
        findings = find_damaged_rows(db)
        if not findings:
            raise
        raise DamagedBase(
            f"The knowledge base is damaged: {' '.join(findings)} Restore it from a copy or build "
            "it again."
        ) from error
