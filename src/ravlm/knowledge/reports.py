"""Reports of the knowledge base: small frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravlm.files import folder_bytes
from ravlm.records import Entry

if TYPE_CHECKING:
    from ravlm.data.rows import Quarantined


@dataclass(frozen=True)
class AddReport:
    """Result of `build` or `add`."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    """Entries stored already with the same content; they were not encoded again."""
    quarantined: tuple[Quarantined, ...] = ()
    """Everything that was rejected, by the reader of the source or by the base, and the reader's
    notes (`is_note`) on how it read the source."""
    duplicates: tuple[tuple[str, str], ...] = ()
    """With `deduplicate`: (skipped id, id of the entry with the same content)."""
    duplicate_reasons: Mapping[str, str] = field(default_factory=dict)
    """Skipped id -> what both have in common: "the same image" ..."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """`decode` (summed over threads), `recognize`, `encode`, `store`, and `total` (wall-clock)."""
    recognized: int = 0
    """Images and pages whose text was recognized, or taken from the cache."""

    def __str__(self) -> str:
        counts = {"added": self.added, "updated": self.updated, "unchanged": self.unchanged}
        if self.recognized:
            counts["recognized"] = self.recognized
        if self.duplicates:
            counts["skipped as duplicates"] = len(self.duplicates)
        parts = [f"{count:,} {label}" for label, count in counts.items()]
        num_rejected = sum(not item.is_note for item in self.quarantined)
        return ", ".join([*parts, f"{num_rejected:,} in quarantine"])


@dataclass(frozen=True)
class Page:
    """A page of a base's entries."""

    entries: tuple[Entry, ...]
    next: str = ""
    """Mark of the next page; empty after the last page."""


@dataclass(frozen=True)
class Info:
    """Size, encoder and state of a base."""

    path: str
    """Folder or address."""
    entries: int
    parts: Mapping[str, int]
    """Number of parts per modality."""
    encoder: str
    fingerprint: str
    dim: int
    format: int
    change: int
    """Number of the last committed change."""
    indexed_change: int
    """Last change covered by the index on disk; newer rows are searched exactly. 0 for no index."""
    folder: Path | None = None
    """Folder with all files of the base; None if the backend cannot tell."""

    @property
    def bytes(self) -> int | None:
        """Size of the folder, measured now; None if the backend cannot tell."""
        return None if self.folder is None else folder_bytes(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values, with the size of the folder."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["folder"]
        return values | {"parts": dict(self.parts), "bytes": self.bytes}


@dataclass(frozen=True)
class Trial:
    """Measurement of one kind of index on the base's own vectors."""

    kind: str
    settings: Mapping[str, int]
    recall: float
    """Recall@10 against exact search."""
    per_second: float
    """Queries per second in batches."""
    p50: float
    """Median seconds of a single search."""
    p99: float
    row_bytes: float
    """Memory per vector."""
    build_seconds: float


@dataclass(frozen=True)
class TuneReport:
    """Result of `tune`."""

    trials: tuple[Trial, ...]
    selected: Trial
    meets_requirements: bool
    rows: int
    """Number of vectors measured, those of the larger modality."""

    def __str__(self) -> str:
        lines = [
            f"{'':2}{'index':<14}{'recall':>7}{'queries/s':>11}{'p50 ms':>8}{'p99 ms':>8}"
            f"{'bytes':>7}{'build s':>9}"
        ]
        lines += [_trial_line(trial, trial == self.selected) for trial in self.trials]
        verdict = (
            "meets all requirements"
            if self.meets_requirements
            else "closest; no index meets all requirements"
        )
        return "\n".join([*lines, f"* selected for {self.rows:,} vectors: {verdict}."])


def _trial_line(trial: Trial, is_selected: bool) -> str:
    mark = "*" if is_selected else ""
    settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    return (
        f"{mark:2}{trial.kind:<14}{trial.recall:>7.3f}{trial.per_second:>11,.0f}"
        f"{1e3 * trial.p50:>8.2f}{1e3 * trial.p99:>8.2f}{trial.row_bytes:>7.0f}"
        f"{trial.build_seconds:>9.1f}  {settings}"
    ).rstrip()


@dataclass(frozen=True)
class VerifyReport:
    """Result of `verify`."""

    findings: tuple[str, ...] = ()
    """One sentence per fault."""
    checked: Mapping[str, int] = field(default_factory=dict)
    """How many items of each kind were checked."""

    @property
    def sound(self) -> bool:
        """Whether there are no faults."""
        return not self.findings

    def __str__(self) -> str:
        verdict = "Sound" if self.sound else "Not sound"
        counts = ", ".join(f"{count:,} {label}" for label, count in self.checked.items())
        return "\n".join([f"{verdict}: {counts} checked.", *self.findings])


@dataclass(frozen=True)
class ExportReport:
    """Result of `export_to`."""

    entries: int
    parts: int
    missing: tuple[str, ...] = ()
    """Images that no longer exist; their entries were exported with the original path."""
