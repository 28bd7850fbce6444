"""What the knowledge base tells about its work: small frozen records. Knows nothing of how it was
done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ravlm.records import Entry

if TYPE_CHECKING:
    from ravlm.data.rows import Quarantined


@dataclass(frozen=True)
class AddReport:
    """What `add` did. `quarantined`: everything of the source that was refused, by its reader or by
    the base."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    """Stored already with the same content, and not encoded again."""
    quarantined: tuple[Quarantined, ...] = ()
    duplicates: tuple[tuple[str, str], ...] = ()
    """With `deduplicate`: (id, id of the entry with the same content) of each that was left out."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """`decode` (summed over threads that work ahead of the encoder), `encode`, `store`, and `total`
    by the clock."""

    def __str__(self) -> str:
        counts = {"added": self.added, "updated": self.updated, "unchanged": self.unchanged}
        if self.duplicates:
            counts["left out as duplicates"] = len(self.duplicates)
        return (
            ", ".join(f"{n:,} {what}" for what, n in counts.items())
            + f", {len(self.quarantined):,} in quarantine"
        )


@dataclass(frozen=True)
class Page:
    """Some of a base's entries. `next` leads to those after them; empty where there are none."""

    entries: tuple[Entry, ...]
    next: str = ""


@dataclass(frozen=True)
class Info:
    """What a base is: sizes, encoder, state."""

    path: str
    """Its folder or address."""
    entries: int
    parts: Mapping[str, int]
    """Number of parts by modality."""
    encoder: str
    fingerprint: str
    dim: int
    format: int
    change: int
    """The number of the last committed change."""
    indexed_change: int
    """The change that the index on disk covers; what is newer is searched beside it. 0: there is
    none."""
    bytes: int | None
    """Size of the folder; None for a server, which does not tell."""


@dataclass(frozen=True)
class Trial:
    """How one kind of index did on a base's own vectors. Seconds: of one search, median and 99th
    percentile."""

    kind: str
    settings: Mapping[str, int]
    recall: float
    """Share of the ten best that it finds."""
    per_second: float
    """Searches a second that come together."""
    p50: float
    p99: float
    row_bytes: float
    """Memory for each vector."""
    build_seconds: float


@dataclass(frozen=True)
class TuneReport:
    """What `tune` measured. `met`: whether the one that was kept does all that was wished."""

    trials: tuple[Trial, ...]
    kept: Trial
    met: bool
    rows: int
    """Vectors that were measured: those of the modality with the most."""

    def __str__(self) -> str:
        lines = [
            f"{'':2}{'index':<8}{'recall':>7}{'a second':>10}{'p50 ms':>8}{'p99 ms':>8}{'bytes':>7}{'built s':>9}"
        ]
        for trial in self.trials:
            mark = "*" if trial == self.kept else ""
            settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
            lines.append(
                f"{mark:2}{trial.kind:<8}{trial.recall:>7.3f}{trial.per_second:>10,.0f}{1e3 * trial.p50:>8.2f}"
                f"{1e3 * trial.p99:>8.2f}{trial.row_bytes:>7.0f}{trial.build_seconds:>9.1f}  {settings}".rstrip()
            )
        wish = (
            "does all that was wished"
            if self.met
            else "none does all that was wished, this comes nearest"
        )
        return "\n".join([*lines, f"* kept for {self.rows:,} vectors: {wish}."])


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found. `findings`: a sentence for each fault; `checked`: how many of what were
    looked at."""

    findings: tuple[str, ...] = ()
    checked: Mapping[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        looked = ", ".join(f"{count:,} {what}" for what, count in self.checked.items())
        return "\n".join(
            [("Sound: " if self.sound else "Not sound: ") + looked + " checked.", *self.findings]
        )


@dataclass(frozen=True)
class ExportReport:
    """What `export_to` wrote. `missing`: pictures that are gone; their entries were written with
    the path they had."""

    entries: int
    parts: int
    missing: tuple[str, ...] = ()
