"""The page of the demo: one self-contained HTML file without scripts (page.html)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from markupsafe import Markup

from ravlm.data.text import is_chinese
from ravlm.demo.records import DemoBase, DemoStep, Section, StepResult
from ravlm.evaluation.html import ImageTags
from ravlm.evaluation.html import write_page as write_html
from ravlm.records import Entry, Hit

_TEMPLATE = Path(__file__).with_name("page.html")
_MAX_GALLERY = 48
"""Entries of each kind that the page shows."""


def write_page(path: Path, base: DemoBase, results: Sequence[StepResult], bundled: bool) -> Path:
    """Write the page to `path` and return the path. `bundled`: whether the photos are the demo's
    own."""
    images = base.with_image[:_MAX_GALLERY]
    texts = base.text_only[:_MAX_GALLERY]
    sections = {
        section: [result for result in results if result.step.section == section]
        for section in get_args(Section)
    }
    values = {
        "base": base,
        "folder": os.path.relpath(base.path.parent),
        "bundled": bundled,
        "gallery_images": images,
        "gallery_texts": texts,
        "num_hidden": len(base.entries) - len(images) - len(texts),
        "sections": sections,
        "model_seconds": sum(result.seconds for result in results),
        "image": ImageTags(),
        "lang": _lang,
        "brief": _brief,
        "entry_name": _entry_name,
        "citation_parts": _citation_parts,
        "bar_share": _bar_share,
        "shows_subject": _shows_subject,
        "evidence_groups": _evidence_groups,
    }
    return write_html(path, _TEMPLATE, values)


def _lang(text: str) -> Markup:
    """Return the `lang` attribute for a text: browsers choose the font by it."""
    return Markup(' lang="zh"') if is_chinese(text) else Markup()


def _brief(text: str, max_length: int = 90) -> str:
    """Return the text on one line of at most `max_length` characters."""
    line = " · ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= max_length else line[: max_length - 1].rstrip() + "…"


def _entry_name(entry: Entry) -> str:
    """Return the value of the entry's first line ("Name: ..."), or its id."""
    line = entry.text.splitlines()[0] if entry.text.strip() else ""
    value = line.partition(":")[2].strip()
    return _brief(value or line or entry.id)


def _citation_parts(text: str) -> list[str]:
    """Split a text at its citations "[1]": texts at even positions, numbers at odd ones."""
    return re.split(r" ?\[([\d, ]+)\]", text)


def _bar_share(hit: Hit) -> str:
    """Return the relevance of a hit in percent, the length of its bar."""
    return f"{hit.relevance or 0.0:.0%}"


def _shows_subject(step: DemoStep, hit: Hit) -> bool:
    """Return whether a hit is about what the step's image shows."""
    return step.subject in (hit.entry.id, hit.entry.metadata.get("shows"))


def _evidence_groups(result: StepResult) -> list[tuple[str, str, list[Hit]]]:
    """Return CSS class, title and hits of the evidence to show: the cited hits; the others too for
    questions about the first photo and for abstentions."""
    answer = result.answer
    assert answer is not None  # a search has no evidence
    cited = [hit for hit in result.hits if hit.entry.id in answer.citations]
    uncited = [hit for hit in result.hits if hit.entry.id not in answer.citations]
    step = result.step
    shows_uncited = step.section == "abstention" or (step.section, step.verb) == ("photo", "ask")
    groups = [("cited", f"Based on (confidence {answer.confidence:.2f})", cited)]
    if shows_uncited:
        title = "Retrieved, but not sufficient" if answer.abstained else "Also retrieved"
        groups.append(("uncited", title, uncited))
    return [group for group in groups if group[2]]
