"""What the knowledge base tells about its work: small frozen records. Knows nothing of how it was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ravlm.data.rows import Quarantined


@dataclass(frozen=True)
class AddReport:
    """What `add` did. `quarantined`: everything of the source that was refused, by its reader or by the base."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    """Stored already with the same content, and not encoded again."""
    quarantined: tuple[Quarantined, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """`decode` (summed over threads that work ahead of the encoder), `encode`, `store`, and `total` by the clock."""

    def __str__(self) -> str:
        counts = {"added": self.added, "updated": self.updated, "unchanged": self.unchanged}
        return ", ".join(f"{n:,} {what}" for what, n in counts.items()) + f", {len(self.quarantined):,} in quarantine"


@dataclass(frozen=True)
class Info:
    """What a base is: sizes, encoder, state."""

    path: str
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
    """The change that the index on disk covers; what is newer is searched beside it. 0: there is none."""
    bytes: int
    """Size of the folder."""


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found. `findings`: a sentence for each fault; `checked`: how many of what were looked at."""

    findings: tuple[str, ...] = ()
    checked: Mapping[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        looked = ", ".join(f"{count:,} {what}" for what, count in self.checked.items())
        return "\n".join([("Sound: " if self.sound else "Not sound: ") + looked + " checked.", *self.findings])


@dataclass(frozen=True)
class ExportReport:
    """What `export_to` wrote. `missing`: pictures that are gone; their entries were written with the path they had."""

    entries: int
    parts: int
    missing: tuple[str, ...] = ()
