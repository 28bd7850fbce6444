"""What the commands print: text by default, JSON Lines with `--json`, progress on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ravlm.cli.terminal import unfiltered, visible_json
from ravlm.records import Answer, Hit, image_location

if TYPE_CHECKING:
    from ravlm.knowledge.reports import AddReport


_UNBREAKABLE = re.compile(
    r"[\u2e80-\uffef][，。！？、；：”’）]*(?:\[\d+\])?\s*|[^\s\u2e80-\uffef]+\s*|\s+"
)
"""Text that stays on one line: a word, or a Chinese character with the punctuation and the citation
mark [1] after it."""
_MARKDOWN_MARKS = re.compile(r"^#{1,6} +|^\| *| *\|$")
_PREVIEW_COLUMNS = 60
_BAR_LENGTH = 5
MAX_NOTES = 10
"""Rejected items listed on the terminal; `--json` lists all."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line, in ASCII if stdout has another encoding than UTF-8."""
    ascii_only = "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    print(visible_json(json.dumps(value, ensure_ascii=ascii_only, default=str)), flush=True)


def note(message: str) -> None:
    """Print a remark to stderr."""
    print(message, file=sys.stderr, flush=True)


def print_hits(hits: Iterable[Hit]) -> None:
    """Print one line per hit: rank, relevance, modality, id, and the beginning of the text."""
    rows = [(f"{rank:>3}  {relevance_bar(hit)}", hit) for rank, hit in enumerate(hits, 1)]
    if not rows:
        note("Nothing found.")
    for prefix, hit in rows:
        print(_hit_line(prefix, hit))


def relevance_bar(hit: Hit) -> str:
    """Return the relevance of a hit as five signs; the raw scores of searches differ in scale."""
    filled = round(_BAR_LENGTH * (hit.relevance or 0.0))
    return "▰" * filled + "▱" * (_BAR_LENGTH - filled)


def print_remarks(answer: Answer) -> None:
    """Print whether the model answered without evidence, and whether its answer was cut off."""
    if answer.trace.get("closed_book"):
        print("\n  without evidence: the model answered by itself")
    if answer.trace.get("finish_reason") == "length":
        note("The answer was cut off at the token limit; allow more with --max-tokens.")


def print_evidence(answer: Answer) -> None:
    """Print the evidence of an answer; cited entries are marked with an asterisk."""
    print_remarks(answer)
    if answer.evidence and answer.abstained:
        print("\n  evidence that was read")
    elif answer.evidence:
        print(f"\n  evidence (* cited), confidence {answer.confidence:.2f}")
    cited_parts = {source.entry_id: source.part for source in answer.sources}
    for rank, hit in enumerate(answer.evidence, 1):
        mark = "*" if hit.entry.id in answer.citations else " "
        part = cited_parts.get(hit.entry.id, hit.part)
        print(_hit_line(f"  {mark}{rank:>2}", replace(hit, part=part)))


def print_rejected(report: AddReport) -> None:
    """Print notes on the source, the duplicates and the quarantined items to stderr."""
    duplicates = [
        f'duplicate: "{entry_id}" has the same content as "{other_id}" '
        f"({report.duplicate_reasons.get(entry_id, 'skipped')})"
        for entry_id, other_id in report.duplicates
    ]
    notes = [f"note: {item}" for item in report.quarantined if item.is_note]
    quarantined = [f"quarantined: {item}" for item in report.quarantined if not item.is_note]
    lists = {"notes": notes, "duplicates": duplicates, "quarantined": quarantined}
    for kind, lines in lists.items():
        for line in lines[:MAX_NOTES]:
            note(line)
        if len(lines) > MAX_NOTES:
            note(f"{kind}: {len(lines) - MAX_NOTES:,} more; --json lists all of them")


class Progress:
    """Shows the progress of a long task on a terminal's stderr, at most once a second.

    The library calls it with a report after each batch; or call `show(num_done, total)`.

    >>> with Progress("entries") as progress:
    ...     progress.show(10, 200)
    """

    def __init__(self, unit: str, count: Callable[[], int] | None = None) -> None:
        """`count` returns the total; it is called only if stderr is a terminal."""
        self.unit = unit
        self.enabled = sys.stderr.isatty()
        self.total = count() if count is not None and self.enabled else 0
        self.start_time = time.monotonic()
        self.last_time = self.start_time

    def __enter__(self) -> Progress:
        return self

    def __call__(self, report: AddReport) -> None:
        """Show the progress of an ingestion."""
        num_skipped = len(report.quarantined) + len(report.duplicates)
        self.show(report.added + report.updated + report.unchanged + num_skipped, self.total)

    def show(self, num_done: int, total: int = 0) -> None:
        """Show that `num_done` of `total` items are done; a total of 0 is unknown."""
        now = time.monotonic()
        if not self.enabled or now - self.last_time < 1:
            return
        self.last_time = now
        rate = num_done / (now - self.start_time)
        of_total = f" of {total:,}" if total else ""
        remaining = ""
        if total >= num_done > 0:
            from ravlm.training.tracking import duration

            remaining = f", {duration((total - num_done) / rate)} left"
        line = f"\r{num_done:,}{of_total} {self.unit}, {rate:.0f} per second{remaining}   "
        print(line, end="", file=unfiltered(sys.stderr), flush=True)

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the line, if one was shown."""
        if self.last_time > self.start_time:
            print(file=sys.stderr)


def shorten(text: str, columns: int) -> str:
    """Return `text` on one line of at most `columns` terminal columns (a Chinese character takes
    two), without the marks of Markdown's headings and tables."""
    parts = (_MARKDOWN_MARKS.sub("", line.strip()) for line in text.splitlines())
    text = " · ".join(part for part in parts if part.strip(" |:-"))
    lines = wrap(text, columns - 1)
    return lines[0] + "…" if len(lines) > 1 else text


def wrap(text: str, columns: int) -> list[str]:
    """Return `text` in lines of at most `columns` terminal columns, broken at spaces or next to a
    Chinese character."""
    lines = [""]
    num_columns = 0
    for chunk in _UNBREAKABLE.findall(text):
        visible = chunk.rstrip()
        width = _width(visible)
        if num_columns + width > columns and lines[-1]:
            lines.append("")
            num_columns = 0
        lines[-1] += chunk
        num_columns += width + len(chunk) - len(visible)
    return [line.rstrip() for line in lines]


def _width(text: str) -> int:
    """Return the number of terminal columns of a text."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _hit_line(prefix: str, hit: Hit) -> str:
    preview = hit.part.text or hit.entry.text or image_location(hit.entry) or ""
    text = shorten(preview, _PREVIEW_COLUMNS)
    return f"{prefix}  {hit.part.modality:<5}  {hit.entry.id}  {text}".rstrip()
