"""What a page takes over from the page before it: the title of the document, the section it begins
in, and the names of the columns of a table that continues.

Pages with text get it when their file is read (`documents`), scans when their text was recognized
(`knowledge.recognition`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ravlm.data.line_joins import joined_lines
from ravlm.data.table_text import with_continued_head
from ravlm.records import Entry

_LINES = ("line", "word")


def page_titles(regions: Iterable[tuple[str, str]]) -> list[str]:
    """Return the titles among the regions of a page, given as kind and text, in reading order.

    >>> page_titles([("title", ""), ("line", "Rules for"), ("line", "all"), ("title", "Keys")])
    ['Rules for all', 'Keys']
    """
    titles: list[list[str]] = []
    is_open = False  # whether the lines of a title are to come
    for kind, text in regions:
        if kind == "title":
            titles.append([text] if text else [])
            is_open = not text
        elif is_open and kind in _LINES:
            titles[-1].append(text)
        else:
            is_open = False
    return [joined_lines(lines) for lines in titles if lines]


def top_section(regions: Sequence[tuple[str, str]], above: str) -> str:
    """Return the section that a page begins in; "" if it is unknown.

    `regions` are those of the page, given as kind and text; `above` is the section that the page
    before it ends in.
    """
    titles = page_titles(regions)
    return titles[0] if titles and (first_kind(regions) == "title" or not above) else above


def bottom_section(regions: Sequence[tuple[str, str]], above: str) -> str:
    """Return the section that a page ends in; `above` as in `top_section`."""
    return [above, *page_titles(regions)][-1]


def first_kind(regions: Sequence[tuple[str, str]]) -> str:
    """Return the kind of the first region below the running head; "" without one."""
    return next((kind for kind, _ in regions if kind != "header"), "")


def with_carried_context(page: Entry, previous: Entry | None) -> Entry:
    """Return a page whose text was recognized, with what it takes over from the `previous` page of
    its document (None if it is not known).

    A title and a section that the page has, such as those of the file, are kept.
    """
    regions = page.regions
    titled, metadata = [(r.kind, r.text) for r in regions], dict(page.metadata)
    titles, above = page_titles(titled), ""
    file_name = Path(str(metadata.get("file", ""))).stem
    title = titles[0] if titles else file_name
    if previous is not None:
        regions = tuple(with_continued_head(previous.regions, regions))
        above = str(previous.metadata.get("section", ""))
        above = bottom_section([(r.kind, r.text) for r in previous.regions], above)
        former_title = previous.metadata.get("title", file_name)
        title = title if former_title == file_name else former_title
    if metadata.get("title") == file_name:  # the file has none
        metadata["title"] = title
    section = top_section(titled, above)
    if section:
        metadata.setdefault("section", section)
    return replace(page, metadata=metadata, regions=regions)
