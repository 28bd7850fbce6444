"""Report: a comparison as a table for the terminal, as JSON and as an HTML page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ravlm.evaluation.html_report import write_html
from ravlm.evaluation.records import Comparison
from ravlm.evaluation.tables import (
    contrast_table,
    cost_table,
    score_table,
    text_lines,
    too_few_to_tell,
)


@dataclass(frozen=True)
class Report(Comparison):
    """The result of `compare`.

    Example:
        print(report)
        report.to_html("report.html")
    """

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the scores, then the contrasts, each as JSON types."""
        for row in [*map(asdict, self.scores), *map(asdict, self.contrasts)]:
            yield json.loads(json.dumps(row))

    def to_json(self) -> str:
        """Return the report without its cases as one JSON object."""
        values = {
            "task": self.task,
            "primary_metric": self.primary_metric,
            "about": dict(self.about),
            "contamination": self.contamination and asdict(self.contamination),
            "scores": [asdict(score) for score in self.scores],
            "contrasts": [asdict(contrast) for contrast in self.contrasts],
            "costs": [asdict(cost) for cost in self.costs],
            "risks": [asdict(curve) for curve in self.risks],
        }
        members = (f"{json.dumps(key)}: {_json(value)}" for key, value in values.items())
        return "{\n" + ",\n".join(members) + "\n}"

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one self-contained HTML file and return its path."""
        return write_html(self, Path(path))

    def __str__(self) -> str:
        n = max(score.n for score in self.scores)
        lines = [f"{self.task}: {n} items of {self.about['source']}, base {self.about['base']}"]
        groups = max((score.groups or 0 for score in self.scores), default=0)
        if groups:
            lines.append(f"groups: {groups}; items of one picture or group are resampled together")
        if self.contamination is not None:
            lines.append(f"contamination: {self.contamination}")
        lines += ["", *text_lines(score_table(self, intervals=[self.primary_metric]))]
        lines += ["", *text_lines(contrast_table(self))]
        if remark := too_few_to_tell(self):
            lines.append(remark)
        lines += ["", *text_lines(cost_table(self))]
        return "\n".join(lines)


def _json(value: Any) -> str:
    """Return `value` as JSON; a list has one line per item."""
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False, default=str)
    rows = (json.dumps(row, ensure_ascii=False, default=str) for row in value)
    return "[\n " + ",\n ".join(rows) + "\n]"
