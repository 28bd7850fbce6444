"""The report as one page that needs nothing else: tables, plots as SVG, examples with their
evidence as pictures.

Knows the report's records and how they look; layout and colours stand in page.html.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from ravlm.data.images import load_image
from ravlm.errors import RavlmError
from ravlm.evaluation.report import COST_HEAD, Case, Report, Said, cost_cells, verdict_cells
from ravlm.files import atomic_write
from ravlm.records import Entry, ImageSource

_TEMPLATE = Path(__file__).with_name("html_report.html")
_WIDTH, _BAR, _LABEL = 640, 30, 210
_PLOT = 260
_COLOURS = ("#1f6feb", "#d1570c", "#1a7f37", "#8250df", "#b3261e", "#0f7b8a")
_KINDS = {
    "won": "Won: right with retrieval, worse without",
    "harmed": "Harmed: better without retrieval",
    "lost": "Lost: wrong with retrieval",
}
_MOST_EVIDENCE = 4


def write_page(report: Report, path: Path) -> Path:
    """Write the page to `path` and return it."""
    parts = (_intervals, _contrasts, _all_scores, _risks, _cases, _about)
    sections = [part(report) for part in parts]
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=f"ravlm compare: {escape(report.task)}",
        heading=f"What retrieval brings to {escape(report.task)}",
        lead=_lead(report),
        sections="\n".join(section for section in sections if section),
    )
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path


def _lead(report: Report) -> str:
    about = report.about
    lead = f"{about['examples']} examples of {about['source']}; {about['entries']} entries, {about['encoder']}."
    if report.contamination is not None:
        lead += f" Contamination: {report.contamination}."
    return escape(lead)


def _intervals(report: Report) -> str:
    """The first metric as bars with intervals."""
    shown = [score for score in report.scores if score.metric == report.chief]
    top = max([score.high for score in shown] + [1e-9])
    scale = (_WIDTH - _LABEL - 70) / top
    bars = []
    for row, score in enumerate(shown):
        y = row * _BAR + 8
        left, low, high = _LABEL, _LABEL + score.low * scale, _LABEL + score.high * scale
        name = escape(report.label(score.arm, score.generator))
        bars.append(
            f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{name}</text>'
            f'<rect x="{left}" y="{y}" width="{max(1, score.score * scale):.1f}" height="18" fill="{_COLOURS[0]}" '
            f'opacity="0.75"/><line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 9}" y2="{y + 9}" stroke="currentColor" '
            f'stroke-width="2"/><text x="{high + 8:.1f}" y="{y + 13}">{score.score:.3f}</text>'
        )
    height = len(shown) * _BAR + 10
    return (
        f"<section><h2>{escape(report.chief)}, with 95 % intervals</h2>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(report.chief)} of each arm">'
        f"{''.join(bars)}</svg></section>"
    )


def _contrasts(report: Report) -> str:
    head = (
        "contrast",
        "difference",
        "95 % interval",
        "p (Holm)",
        "gain",
        "harm",
        "could have seen",
    )
    rows = [
        (
            f"{c.contrast[1]} − {c.contrast[0]}",
            f"{c.difference:+.3f}",
            f"{c.low:+.3f} to {c.high:+.3f}",
            *verdict_cells(c),
        )
        for c in report.contrasts
        if c.metric == report.chief
    ]
    note = "gain and harm: shares of the examples that the arm named first scores higher and lower"
    return f"<section><h2>Pairs of arms</h2>{_table(head, rows, note)}</section>" if rows else ""


def _all_scores(report: Report) -> str:
    metrics = list(dict.fromkeys(score.metric for score in report.scores))
    rows: dict[str, list[str]] = {}
    for s in report.scores:
        rows.setdefault(report.label(s.arm, s.generator), []).append(
            f"{s.score:.3f} [{s.low:.3f}, {s.high:.3f}]"
        )
    head = ("arm", *COST_HEAD)
    costs = [(report.label(c.arm, c.generator), *cost_cells(c)) for c in report.costs]
    scores = _table(
        ("arm", *metrics),
        [(name, *cells) for name, cells in rows.items()],
        "95 % intervals in brackets",
    )
    return f"<section><h2>All metrics</h2>{scores}</section><section><h2>Cost</h2>{_table(head, costs, '')}</section>"


def _risks(report: Report) -> str:
    """Risk against coverage, a line an arm that answered something."""
    shown = [risk for risk in report.risks if risk.coverage]
    if not shown:
        return ""
    lines = []
    for place, risk in enumerate(shown):
        colour = _COLOURS[place % len(_COLOURS)]
        points = " ".join(
            f"{50 + x * _PLOT:.1f},{20 + (1 - y) * _PLOT:.1f}"
            for x, y in zip(risk.coverage, risk.risk, strict=True)
        )
        name = escape(report.label(risk.arm, risk.generator))
        if risk.calibration is not None:
            name += f" (calibration error {risk.calibration:.2f})"
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{_PLOT + 90}" cy="{30 + place * 20}" r="5" fill="{colour}"/>'
            f'<text x="{_PLOT + 102}" y="{34 + place * 20}">{name}</text>'
        )
    axes = (
        f'<rect x="50" y="20" width="{_PLOT}" height="{_PLOT}" fill="none" stroke="currentColor" opacity="0.4"/>'
        f'<text x="50" y="{_PLOT + 38}">0</text><text x="{_PLOT + 40}" y="{_PLOT + 38}">1</text>'
        f'<text x="{_PLOT // 2}" y="{_PLOT + 38}">coverage</text>'
        f'<text x="40" y="{_PLOT + 20}" text-anchor="end">0</text><text x="40" y="28" text-anchor="end">1</text>'
        '<text x="4" y="150">risk</text>'
    )
    return (
        "<section><h2>Risk against coverage</h2><p>Answers in the order of their confidence: of the share "
        "answered, how much is wrong. The calibration error says how far confidence is from the share that is right."
        "</p>"
        f'<svg viewBox="0 0 {_WIDTH} {_PLOT + 50}" role="img" aria-label="risk against coverage">'
        f"{axes}{''.join(lines)}</svg></section>"
    )


def _cases(report: Report) -> str:
    parts = []
    for kind, title in _KINDS.items():
        cards = "".join(_card(case) for case in report.cases if case.kind == kind)
        if cards:
            parts.append(
                f'<section><h2 class="{kind}">{title}</h2><div class="cases">{cards}</div></section>'
            )
    return "".join(parts)


def _card(case: Case) -> str:
    example = case.example
    question = f"<p><strong>{escape(example.text)}</strong></p>" if example.text else ""
    right = "; ".join(example.references[:5])
    said = "".join(_answer(each) for each in case.said)
    return (
        f'<article class="case">{_image(example.image, 320, "The example")}{question}'
        f"<dl><dt>right</dt><dd>{escape(right)}</dd>{said}</dl></article>"
    )


def _answer(said: Said) -> str:
    shown = "".join(
        _figure(entry, entry.id in said.citations) for entry in said.evidence[:_MOST_EVIDENCE]
    )
    evidence = f'<div class="evidence">{shown}</div>' if shown else ""
    return (
        f"<dt>{escape(said.arm)}, {said.score:.2f}</dt><dd>{escape(said.text[:300])}{evidence}</dd>"
    )


def _figure(entry: Entry, cited: bool) -> str:
    picture = _image(entry.image, 120, "Evidence") if entry.image is not None else ""
    mark = ' class="cited"' if cited else ""
    said = " · ".join(entry.text.splitlines())[:60]
    return f"<figure{mark}>{picture}<figcaption>{escape(said or entry.id)}</figcaption></figure>"


def _image(source: ImageSource | None, edge: int, alt: str) -> str:
    """An `<img>` with the picture inside; words where there is none any more."""
    if source is None:
        return ""
    try:
        image = load_image(source, edge=edge)
    except RavlmError:
        return '<p class="soft">(the picture is gone)</p>'
    image.thumbnail((edge, edge))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{alt}" width="{image.width}" height="{image.height}" src="data:image/jpeg;base64,{data}">'


def _about(report: Report) -> str:
    rows = [(key, str(value)) for key, value in report.about.items()]
    return f"<section><h2>How it was made</h2>{_table(('what', 'value'), rows, '')}</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    titles = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{above}<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'
