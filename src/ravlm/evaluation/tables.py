"""The cells of a report's tables, shared by the terminal and the HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from ravlm.evaluation.records import MIN_GROUPS, Comparison, Contrast, Cost


def contrast_table(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the contrasts in the primary metric, the column heads first; empty without any."""
    if not comparison.primary_contrasts:
        return []
    columns = (
        "contrast",
        f"{comparison.primary_metric} difference",
        "95 % interval",
        "p (Holm)",
        "wins",
        "losses",
        "MDE (80 % power)",
    )
    return [columns, *map(_contrast_cells, comparison.primary_contrasts)]


def too_few_to_tell(comparison: Comparison) -> str:
    """Return a remark if there are too few independent examples for a difference; else ""."""
    few = [contrast for contrast in comparison.primary_contrasts if contrast.has_too_few]
    if not few:
        return ""
    count = few[0].groups or few[0].n
    return f"Too few to tell: {count} independent examples; a difference needs {MIN_GROUPS}."


def cost_table(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the cost of each arm, the column heads first."""
    columns = (
        "cost",
        "computed",
        "retrieval s",
        "generation s",
        "words",
        "abstained",
        "parameters",
        "peak MB",
    )
    return [columns, *((comparison.label(cost), *_cost_cells(cost)) for cost in comparison.costs)]


def score_table(comparison: Comparison, intervals: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the scores, a row per arm and a column per metric, the primary metric first.

    The metrics in `intervals` are shown with their 95 % intervals."""
    metrics = sorted(
        dict.fromkeys(score.metric for score in comparison.scores),
        key=lambda metric: metric != comparison.primary_metric,
    )
    cells: dict[str, dict[str, str]] = {}
    for score in comparison.scores:
        interval = f" [{score.low:.3f}, {score.high:.3f}]" if score.metric in intervals else ""
        row = cells.setdefault(comparison.label(score), {})
        row[score.metric] = f"{score.score:.3f}{interval}"
    rows = [(arm, *(row.get(metric, "") for metric in metrics)) for arm, row in cells.items()]
    return [("arm", *metrics), *rows]


def text_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines of aligned columns: the first to the left, the others to the right."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        columns = [name.ljust(widths[0])]
        columns += [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join(columns).rstrip())
    return lines


def _contrast_cells(contrast: Contrast) -> tuple[str, ...]:
    first, second = contrast.contrast
    return (
        f"{second} - {first}",
        f"{contrast.difference:+.3f}",
        f"[{contrast.low:+.3f}, {contrast.high:+.3f}]",
        f"{contrast.p:.4f}",
        f"{contrast.gain:.1%}",
        f"{contrast.harm:.1%}",
        f"{contrast.mde:.3f}" if contrast.mde else "-",
    )


def _cost_cells(cost: Cost) -> tuple[str, ...]:
    return (
        f"{cost.computed}",
        f"{cost.seconds_retrieval:.2f}",
        f"{cost.seconds_generation:.2f}",
        f"{cost.words:.1f}",
        f"{cost.abstained:.1%}",
        "-" if cost.parameters is None else f"{cost.parameters:,}",
        f"{cost.peak_memory / 1e6:.0f}",
    )
