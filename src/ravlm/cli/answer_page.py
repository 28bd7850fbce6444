"""An answer as a page: its text, and for each citation the image with the cited place highlighted.

One self-contained HTML file without scripts (answer_page.html)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ravlm.data.text import is_chinese
from ravlm.evaluation.html import ImageTags, write_page
from ravlm.records import Answer, ImageSource, Source
from ravlm.regions import Box

_TEMPLATE = Path(__file__).with_name("answer_page.html")
_PHOTO_EDGE, _PAGE_EDGE = 480, 1400
"""Longer side in pixels of a photo, and of an image on which a line must be legible."""


@dataclass(frozen=True)
class CitedSource:
    """What the page shows of a citation."""

    source: Source
    image: ImageSource | None
    max_edge: int
    style: str
    """CSS of the cited place on the image; "" if it is the whole image."""
    before: str
    cited: str
    after: str
    """The text of the part, split at the cited characters."""


def write_answer_page(
    path: Path, answer: Answer, title: str, image: ImageSource | None = None
) -> Path:
    """Write the page of an answer about `image` and return its path."""
    chinese = is_chinese(answer.text)
    label = "置信度" if chinese else "confidence"
    values = {
        "title": title or answer.text[:80],
        "query_image": image,
        "answer": answer,
        "chinese": chinese,
        "remark": "" if answer.abstained else f"{label} {answer.confidence:.2f}",
        "sources": _cited_sources(answer),
        "image": ImageTags(),
        "lang": _lang,
        "citation_parts": _citation_parts,
    }
    return write_page(path, _TEMPLATE, values)


def _cited_sources(answer: Answer) -> list[CitedSource]:
    images = {hit.entry.id: hit.entry.image for hit in answer.evidence}
    cited = []
    for source in answer.sources:
        text, box = source.part.text, source.part.box
        start = len(text) if source.start is None else source.start
        end = len(text) if source.end is None else source.end
        edge = _PHOTO_EDGE if box is None else _PAGE_EDGE
        image = images.get(source.entry_id)
        pieces = text[:start], text[start:end], text[end:]
        cited.append(CitedSource(source, image, edge, _style(box), *pieces))
    return cited


def _style(box: Box | None) -> str:
    if box is None:
        return ""
    left, top, right, bottom = (100 * share for share in box)
    size = f"width:{right - left:.2f}%;height:{bottom - top:.2f}%"
    return f"left:{left:.2f}%;top:{top:.2f}%;{size}"


def _lang(text: str) -> Markup:
    """Return the `lang` attribute for a text: browsers choose the font by it."""
    return Markup(' lang="zh"') if is_chinese(text) else Markup(' lang="en"')


def _citation_parts(text: str) -> list[str]:
    """Split a text at its citations "[1]": texts at even positions, numbers at odd ones."""
    return re.split(r" ?\[(\d+)\]", text)
