"""A single document: PDF, DOCX, PPTX or HTML. `data/documents.py` expands it into its pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ravlm.data.office import is_office_file
from ravlm.data.pdf import is_pdf_file
from ravlm.data.rows import Quarantined, Row


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether `path` is a document."""
    return bool(head) and (is_pdf_file(path) or is_office_file(path))


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row, which stands for all pages."""
    yield Row(str(path), {"id": path.name, "image": path.name}, path.parent)
