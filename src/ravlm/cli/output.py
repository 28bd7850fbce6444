"""What the commands print: for people by default, one JSON object a line with `--json`; progress to
stderr.

Knows the records, and nothing of how they came about.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ravlm.records import Answer, Entry, Hit

if TYPE_CHECKING:
    from ravlm.knowledge.reports import AddReport


_UNBROKEN = re.compile(
    r"[\u2e80-\uffef][，。！？、；：”’）]*(?:\[\d+\])?\s*|[^\s\u2e80-\uffef]+\s*|\s+"
)
"""What stays on one line: a word, or a Chinese character with the punctuation and the mark [1] that
follow it."""


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def note(sentence: str) -> None:
    """A remark for the person at the terminal: to stderr."""
    print(sentence, file=sys.stderr, flush=True)


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit as JSON types; a picture that is not a file is `null`."""
    return {
        "id": hit.entry.id,
        "score": round(hit.score, 6),
        "modality": hit.part.modality,
        "matched": hit.part.text,
        "image": picture_path(hit.entry),
        "texts": list(hit.entry.texts),
        "metadata": dict(hit.entry.metadata),
    }


def answer_record(answer: Answer) -> dict[str, Any]:
    """An answer as JSON types, its evidence and trace included."""
    return {
        "text": answer.text,
        "citations": list(answer.citations),
        "confidence": round(answer.confidence, 6),
        "abstained": answer.abstained,
        "evidence": [hit_record(hit) for hit in answer.evidence],
        "trace": dict(answer.trace),
    }


def print_hits(hits: Iterable[Hit]) -> None:
    """A line a hit: rank, score, id, what matched, and how the entry begins."""
    lines = [(f"{rank:>3}  {hit.score:6.3f}", hit) for rank, hit in enumerate(hits, 1)]
    if not lines:
        note("Nothing found.")
    for start, hit in lines:
        print(_hit_line(start, hit))


def print_evidence(answer: Answer) -> None:
    """The evidence of an answer; what the answer rests on is marked with an asterisk."""
    if answer.evidence:
        print(f"\n  evidence (* cited), confidence {answer.confidence:.2f}")
    for rank, hit in enumerate(answer.evidence, 1):
        mark = "*" if hit.entry.id in answer.citations else " "
        print(_hit_line(f"  {mark}{rank:>2}  {hit.score:6.3f}", hit))


def picture_path(entry: Entry) -> str | None:
    """Where the entry's picture lies, if it is a file or an address."""
    return os.fspath(entry.image) if isinstance(entry.image, str | os.PathLike) else None


class Progress:
    """Shows on a terminal's stderr how far a long work is, once a second; the library calls it
    after each batch."""

    def __init__(self, what: str, count: Callable[[], int] | None = None) -> None:
        """`count` tells how many there are in all; it is asked only where somebody looks."""
        self.what, self.seen = what, sys.stderr.isatty()
        self.total = count() if count is not None and self.seen else 0
        self.began = self.shown = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __call__(self, report: AddReport) -> None:
        """Show the state of `report`."""
        left_out = len(report.quarantined) + len(report.duplicates)
        self.show(report.added + report.updated + report.unchanged + left_out, self.total)

    def show(self, done: int, total: int = 0) -> None:
        """Show that `done` of `total` (0: unknown) are done."""
        now = time.monotonic()
        if self.seen and now - self.shown >= 1:
            self.shown = now
            of = f" of {total:,}" if total else ""
            rate = done / (now - self.began)
            left = f", {_duration((total - done) / rate)} left" if total >= done > 0 else ""
            print(
                f"\r{done:,}{of} {self.what}, {rate:.0f} a second{left}   ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(self, *error: object) -> None:
        if self.shown > self.began:
            print(file=sys.stderr)


def _duration(seconds: float) -> str:
    """`42 s`, `3 min` or `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def shorten(text: str, columns: int) -> str:
    """`text` on one line of at most `columns` terminal columns (a Chinese character takes two)."""
    text = " · ".join(line.strip() for line in text.splitlines() if line.strip())
    lines = wrap(text, columns - 1)
    return lines[0] + "…" if len(lines) > 1 else text


def wrap(text: str, columns: int) -> list[str]:
    """`text` in lines of at most `columns` terminal columns, broken at spaces or beside a Chinese
    character."""
    lines, used = [""], 0
    for piece in _UNBROKEN.findall(text):
        width = sum(
            2 if unicodedata.east_asian_width(character) in "WF" else 1
            for character in piece.rstrip()
        )
        if used + width > columns and lines[-1]:
            lines, used = [*lines, ""], 0
        lines[-1] += piece
        used += width + len(piece) - len(piece.rstrip())
    return [line.rstrip() for line in lines]


def _hit_line(start: str, hit: Hit) -> str:
    what = "picture" if hit.part.modality == "image" else "text   "
    begin = hit.part.text or hit.entry.text or picture_path(hit.entry) or ""
    return f"{start}  {what}  {hit.entry.id}  {shorten(begin, 60)}".rstrip()
