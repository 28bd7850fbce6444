"""The report: its tables in the terminal, and its HTML page in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ravlm.evaluation.records import (
    ArmOutput,
    ArmScore,
    Case,
    Contamination,
    Contrast,
    Cost,
    RiskCurve,
)
from ravlm.evaluation.report import Report
from ravlm.records import Entry, Example
from tests.helpers.browser import background_of_page, open_browser

ARMS = ("closed-book", "retrieved", "a-long-name-of-an-arm@k=8@noise=0.25@size=0.1")


@pytest.fixture
def report(pictures: Path) -> Report:
    """A report with two metrics of three arms, and a case of each kind."""
    entries = tuple(
        Entry(name, str(pictures / f"{name}.png"), (f"Name: {name}\nKind: color",))
        for name in ("red", "green", "blue")
    )
    gone = Entry("gone", str(pictures / "gone.png"), ("a deleted image",))
    outputs = (
        ArmOutput("closed-book", "<i>nothing</i>", 0.0),
        ArmOutput("retrieved", "red", 1.0, (*entries, gone), ("red",)),
    )
    example = Example("q", str(pictures / "red.png"), "Which <b>color</b>?", ("red",))
    return Report(
        task="vqa",
        primary_metric="accuracy",
        about={
            "source": "/a/long/path/without/spaces/to/the/questions.jsonl",
            "base": "kb",
            "examples": 4,
            "entries": 3,
            "encoder": "fake 1234",
        },
        scores=tuple(
            ArmScore(arm, "extractive", metric, 4, 0.5, 0.25, 0.75)
            for metric in ("token-f1", "accuracy")
            for arm in ARMS
        ),
        contrasts=tuple(
            Contrast(
                contrast=(first, second),
                generator="extractive",
                metric="accuracy",
                n=4,
                difference=0.5,
                low=0.25,
                high=0.75,
                p=0.01,
                p_uncorrected=0.005,
                gain=0.75,
                harm=0.25,
                mde=mde,
            )
            for first, second, mde in ((ARMS[0], ARMS[1], 0.125), (ARMS[1], ARMS[2], 0.0))
        ),
        costs=tuple(
            Cost(arm, "extractive", 4, 0.5, 0.25, 3.0, 0.25, parameters, 12_000_000)
            for arm, parameters in zip(ARMS, (None, 1_000, None), strict=True)
        ),
        risks=(
            RiskCurve("closed-book", "extractive", (), ()),
            RiskCurve("retrieved", "extractive", (0.5, 1.0), (0.0, 0.25), 0.1),
        ),
        cases=tuple(Case(kind, example, outputs) for kind in ("win", "loss", "failure")),
        contamination=Contamination(4, exact=1, ids=("q",)),
    )


def test_terminal_table(report: Report) -> None:
    lines = str(report).splitlines()
    assert lines[0] == f"vqa: 4 items of {report.about['source']}, base kb"
    assert lines[1] == (
        "contamination: of 4 examples the base contains 1 exactly, 0 perceptually, 0 by embedding"
    )
    scores, contrasts, costs = "\n".join(lines[3:]).split("\n\n")
    assert scores.splitlines()[0].split() == ["arm", "accuracy", "token-f1"], "primary metric first"
    assert scores.splitlines()[1].split() == ["closed-book", "0.500", "[0.250,", "0.750]", "0.500"]
    for column in ("p (Holm)", "wins", "losses", "MDE (80 % power)"):
        assert column in contrasts.splitlines()[0]
    assert contrasts.splitlines()[1].split()[-4:] == ["0.0100", "75.0%", "25.0%", "0.125"]
    assert contrasts.splitlines()[2].split()[-1] == "-", "no item varies"
    assert costs.splitlines()[2].split() == (
        ["retrieved", "4", "0.50", "0.25", "3.0", "25.0%", "1,000", "12"]
    )


def test_too_few_examples_are_named(report: Report, tmp_path: Path) -> None:
    """Four examples had a p value and an interval, as if they could tell a difference."""
    sentence = "Too few to tell: 4 independent examples; a difference needs 20."
    assert sentence in str(report)
    assert sentence in report.to_html(tmp_path / "few.html").read_text(encoding="utf-8")
    many = [replace(contrast, n=80) for contrast in report.contrasts]
    enough = replace(report, contrasts=tuple(replace(c, groups=20) for c in many))
    assert "Too few" not in str(enough)
    assert "groups:" not in str(enough)
    few = replace(report, contrasts=tuple(replace(c, groups=19) for c in many))
    few = replace(few, scores=tuple(replace(score, n=80, groups=19) for score in few.scores))
    assert "Too few to tell: 19 independent examples" in str(few)
    assert str(few).splitlines()[1].startswith("groups: 19; items of one picture or group")


def test_html_shows_cases_and_escapes_texts(report: Report, tmp_path: Path) -> None:
    page = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    for title in ("Wins: better with", "Losses: better without", "Failures: wrong with"):
        assert title in page
    assert "Which &lt;b&gt;color&lt;/b&gt;?" in page
    assert "<i>" not in page
    assert page.count('class="cited"') == 3
    assert page.count("(image not available)") == 3
    assert page.count("<polyline") == 1, "an arm without answers has no curve"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as chromium:
        yield chromium


@pytest.mark.parametrize("width", [360, 1280])
def test_html_in_a_browser(report: Report, tmp_path: Path, browser: Any, width: int) -> None:
    page = report.to_html(tmp_path / "report.html")
    assert background_of_page(browser, page, width, "light") == "rgb(253, 253, 252)"
    assert background_of_page(browser, page, width, "dark") == "rgb(22, 24, 28)"
