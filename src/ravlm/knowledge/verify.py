"""Verify a base through its rows: the default of every backend.

Reads only.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ravlm.data.images import is_address
from ravlm.data.pdf import image_file
from ravlm.knowledge.entry_store import EntryStore
from ravlm.knowledge.records import EntryRow
from ravlm.knowledge.reports import VerifyReport
from ravlm.knowledge.verify_embeddings import find_wrong_embeddings

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder


class RowVerifier:
    """One verification of a base. `sample_size` entries are encoded again."""

    def __init__(self, store: EntryStore, encoder: Callable[[], Encoder], sample_size: int) -> None:
        self.store = store
        self.encoder = encoder
        self.sample_size = sample_size
        self.findings: list[str] = []
        self.checked: dict[str, int] = {}

    def run(self) -> VerifyReport:
        """Check rows, images and vectors, and encode a sample again."""
        sample = self._check_rows()
        self.check_vectors()
        if sample:
            self.findings += find_wrong_embeddings(sample, self.encoder, self.store.canaries())
            self.checked["entries encoded again"] = len(sample)
        return VerifyReport(tuple(self.findings), self.checked)

    def check_vectors(self) -> None:
        """Check how vectors are stored; the default only counts them."""
        self.checked["vectors"] = sum(len(row.parts) for row in self.store.rows())

    def _check_rows(self) -> list[EntryRow]:
        """Check every row; return a sample to encode again."""
        num_rows = 0
        sample: list[EntryRow] = []
        for row in self.store.rows():
            num_rows += 1
            self._check_row(row)
            has_encoded_part = any(not part.precomputed for part in row.parts)
            if len(sample) < self.sample_size and has_encoded_part:
                sample.append(row)
        self.checked["entries"] = num_rows
        count = self.store.count()
        if num_rows != count:
            self.findings.append(f"The base has {count:,} entries, but {num_rows:,} were read.")
        return sample

    def _check_row(self, row: EntryRow) -> None:
        if not row.parts:
            self.findings.append(f'The entry "{row.id}" has no part.')
        parts = Counter((part.modality, part.position, part.passage) for part in row.parts)
        for (_, position, passage), count in parts.items():
            if count > 1 and count > max_parts(row.texts, position, passage):
                self.findings.append(stored_repeatedly(row.id, count))
        if (
            row.image is not None
            and not is_address(row.image)
            and not os.path.isfile(image_file(row.image))
        ):
            self.findings.append(missing_image(row.id, row.image))


def max_parts(texts: str, position: int, passage: str | None) -> int:
    """Return how many parts may have this passage of a text; `texts` is a JSON list.

    The passages of a text are consecutive. One that it repeats is a part each time.
    """
    all_texts = json.loads(texts)
    if passage is None or position >= len(all_texts):
        return 1
    text, passage = ("".join(words.split()) for words in (all_texts[position], passage))
    return max(1, text.count(passage))


def stored_repeatedly(id_: str, count: int) -> str:
    """Return the finding for a part that is stored several times."""
    return (
        f'A part of "{id_}" is stored {count} times. '
        "Remove the entry and add it again, or re-encode the base."
    )


def missing_image(id_: str, path: str) -> str:
    """Return the finding for an image file that no longer exists."""
    return f'The image of "{id_}" is gone: "{path}". Its vectors and texts are still searchable.'
